"""Chunk returns: equal to a brute-force computation, and as fast as the paper says on a chain."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla.rl.returns import monte_carlo, prefix_returns

episodes = st.lists(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=1, max_size=7), min_size=1, max_size=4)


def laid_out(rewards: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    stops = np.cumsum([len(episode) for episode in rewards])
    return np.concatenate(rewards).astype(np.float32), np.concatenate(
        [np.full(len(episode), stop) for episode, stop in zip(rewards, stops, strict=True)])


def brute_force(rewards: list[float], t: int, steps: int, gamma: float, values: np.ndarray) -> float | None:
    """The target of the prefix of `steps` actions from t in one episode; None if it crosses the end."""
    if t + steps > len(rewards):
        return None
    total = sum(gamma**j * rewards[t + j] for j in range(steps))
    return total if t + steps == len(rewards) else total + gamma**steps * values[t + steps]


@given(episodes, st.integers(1, 9), st.sampled_from([1.0, 0.9]), st.integers(0, 2**16))
def test_every_prefix_is_what_brute_force_says(rewards, horizon, gamma, seed):
    reward, stop = laid_out(rewards)
    values = np.random.default_rng(seed).normal(size=len(reward))
    found = prefix_returns(reward, stop, horizon, gamma)
    target = found.earned + found.discount * values[found.next]
    start = 0
    for episode in rewards:
        own = values[start : start + len(episode)]
        for t in range(len(episode)):
            for i in range(1, horizon + 1):
                expected = brute_force(episode, t, i, gamma, own)
                assert found.valid[start + t, i - 1] == (expected is not None)
                if expected is not None:
                    assert target[start + t, i - 1] == pytest.approx(expected, abs=1e-5)
        start += len(episode)


@given(episodes, st.integers(1, 4), st.integers(1, 9), st.integers(0, 2**16))
def test_a_fixed_number_of_backup_steps_goes_for_every_prefix(rewards, prefixes, backup, seed):
    reward, stop = laid_out(rewards)
    values = np.random.default_rng(seed).normal(size=len(reward))
    found = prefix_returns(reward, stop, max(prefixes, backup), 0.9).cut(prefixes, backup)
    target = found.earned + found.discount * values[found.next]
    assert target.shape == (len(reward), prefixes)
    start = 0
    for episode in rewards:
        for t in range(len(episode)):
            expected = brute_force(episode, t, min(backup, len(episode) - t), 0.9, values[start : start + len(episode)])
            assert target[start + t] == pytest.approx(expected, abs=1e-5)
        start += len(episode)


@given(episodes, st.sampled_from([1.0, 0.9]))
def test_monte_carlo_is_the_return_to_the_end(rewards, gamma):
    reward, stop = laid_out(rewards)
    whole = prefix_returns(reward, stop, 7, gamma)
    last = whole.valid.sum(1) - 1
    np.testing.assert_allclose(monte_carlo(reward, stop, gamma), whole.earned[np.arange(len(reward)), last], atol=1e-5)


@pytest.mark.parametrize("length", [1, 7, 20])
@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_a_terminal_reward_reaches_the_start_in_length_over_chunk_backups(length: int, chunk: int):
    """CO-RFT's point, exactly: a table of values, backed up over and over from whole chunks."""
    reward, stop = np.eye(length)[-1], np.full(length, length)
    found = prefix_returns(reward, stop, chunk, 0.9)
    rows, last = np.arange(length), found.valid.sum(1) - 1
    values, backups = np.zeros(length), 0
    while values[0] == 0:
        values = (found.earned + found.discount * values[found.next])[rows, last]
        backups += 1
    assert backups == math.ceil(length / chunk)
    assert values[0] == pytest.approx(0.9 ** (length - 1))

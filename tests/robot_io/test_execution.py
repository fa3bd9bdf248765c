"""Schedules, driven by a policy that knows what should be done when: the n-th action carried out should be n."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_policy import SPEC

from robot_io import Underway, UserError
from robot_io.execution import SCHEDULES, DelayEstimate, TemporalEnsembling, hold, make_schedule

HORIZON = 12


def carry_out(kind: str, execute: int, delay: int, steps: int = 60) -> tuple[list[float | None], list[Underway | None]]:
    """The actions of each step, None where there was none, and what the policy was told; answers come `delay` steps late."""
    schedule = make_schedule(kind, execute, SPEC.action)
    done, told, coming = [], [], None

    def hand_over(step: int) -> None:
        nonlocal coming
        if coming is not None and step - coming[0] >= delay:
            schedule.accept(np.arange(coming[1], coming[1] + HORIZON, dtype=np.float32)[:, None].repeat(2, 1))
            coming = None

    for step in range(steps):
        hand_over(step)
        if coming is None and schedule.due():
            told.append(schedule.ask(delay))
            coming = step, sum(action is not None for action in done)
            hand_over(step)
        action = schedule.action()
        done.append(None if action is None else float(action[0]))
    return done, told


@pytest.mark.parametrize("kind", sorted(SCHEDULES))
@given(execute=st.integers(1, HORIZON), delay=st.integers(0, HORIZON))
def test_every_action_is_carried_out_in_its_turn(kind: str, execute: int, delay: int) -> None:
    done, _ = carry_out(kind, execute, delay)
    carried = [action for action in done if action is not None]
    np.testing.assert_allclose(carried, np.arange(len(carried)), atol=1e-4)
    assert done[:delay] == [None] * delay
    if kind != "synchronous" and execute + delay <= HORIZON and 2 * delay <= HORIZON:
        assert None not in done[delay:], "there is always something to do while the next chunk is on its way"


@given(execute=st.integers(1, HORIZON), delay=st.integers(0, 5))
def test_synchronous_stands_still_while_it_waits(execute: int, delay: int) -> None:
    done, _ = carry_out("synchronous", execute, delay)
    assert [action is None for action in done] == [step % (execute + delay) < delay for step in range(len(done))]


def test_without_latency_asynchronous_is_synchronous() -> None:
    for kind in ("asynchronous", "real_time"):
        assert carry_out(kind, 4, 0)[0] == carry_out("synchronous", 4, 0)[0]


@given(execute=st.integers(1, HORIZON), delay=st.integers(0, HORIZON))
def test_real_time_chunking_tells_what_is_then_done(execute: int, delay: int) -> None:
    _, told = carry_out("real_time", execute, delay)
    assert told[0] is None
    if execute < HORIZON:
        assert told[1].actions[:, 0].tolist() == list(range(execute, HORIZON))
        assert told[1].delay == min(delay, HORIZON - execute)


def test_ensembling_weighs_as_act_does() -> None:
    schedule = TemporalEnsembling(decay=0.5)
    found = []
    for value in (1.0, 5.0, 9.0):
        schedule.ask(0)
        schedule.accept(np.full((4, 2), value, np.float32))
        found.append(schedule.action()[0])
    found += [schedule.action()[0] for _ in range(3)]
    weights = np.exp(-0.5 * np.arange(3))
    values = np.array([1.0, 5.0, 9.0])
    expected = [np.average(values[chunks], weights=weights[: len(values[chunks])])
                for chunks in (slice(0, 1), slice(0, 2), slice(0, 3), slice(0, 3), slice(1, 3), slice(2, 3))]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert schedule.action() is None


def test_holding_keeps_the_gripper_and_absolute_targets() -> None:
    spec = replace(SPEC, action=replace(SPEC.action, names=("x", "grip"), modes=("delta", "absolute"), gripper=1, gripper_open=1.0))
    state = np.array([0.3, 0.4, 0.5], np.float32)
    assert hold(spec, state, last=None).tolist() == [0.0, 1.0]
    assert hold(spec, state, last=np.array([0.2, 0.0], np.float32)).tolist() == [0.0, 0.0]


def test_refusals_name_the_remedy() -> None:
    with pytest.raises(UserError, match="did you mean 'synchronous'"):
        make_schedule("syncronous", 4, SPEC.action)
    relative = replace(SPEC.action, modes=("relative", "delta"))
    make_schedule("synchronous", 4, relative)
    for kind in set(SCHEDULES) - {"synchronous"}:
        with pytest.raises(UserError, match="relative to each chunk's first state"):
            make_schedule(kind, 4, relative)
    with pytest.raises(UserError, match="at most 3"):
        make_schedule("asynchronous", 4, SPEC.action).accept(np.zeros((3, 2), np.float32))


def test_the_longest_recent_delay_is_expected() -> None:
    estimate = DelayEstimate(first=2, memory=3)
    assert estimate.steps == 2
    for delay, expected in ((1, 1), (5, 5), (2, 5), (2, 5), (2, 2)):
        estimate.add(delay)
        assert estimate.steps == expected

"""The chunk critic: causal in the actions, at home in both outputs, able to learn what a chunk is worth."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from toy_context import OUTPUT, context

from heads.critic import ChunkCritic, StateValue
from heads.critic_outputs import HLGauss, Scalar
from robot_io import UserError

OUTPUTS = [Scalar.Config(), HLGauss.Config()]


def critic(output: Scalar.Config | HLGauss.Config = OUTPUTS[0], **options: object) -> ChunkCritic:
    torch.manual_seed(0)
    return ChunkCritic(ChunkCritic.Config(width=16, layers=2, heads=2, output=output, **options), OUTPUT)


def chunks(batch: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, n, OUTPUT.horizon, OUTPUT.action_dim, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda config: config.kind)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluating"])
def test_a_prefix_is_valued_without_what_comes_after_it(output, training: bool):
    network = critic(output).train(training)
    torch.nn.init.normal_(network.members[0].value.weight)
    actions, other = chunks(3, 2), chunks(3, 2, seed=1)
    with torch.set_grad_enabled(training):
        before = network(context(3), actions)
        for prefix in range(1, OUTPUT.horizon):
            changed = torch.cat([actions[:, :, :prefix], other[:, :, prefix:]], 2)
            after = network(context(3), changed)
            torch.testing.assert_close(after[..., :prefix], before[..., :prefix], rtol=0, atol=1e-6)
            assert not torch.allclose(after[0, ..., prefix:], before[0, ..., prefix:])
            torch.testing.assert_close(network(context(3), actions[:, :, :prefix]), before[..., :prefix], rtol=0, atol=1e-6)


def test_shapes_and_members():
    network = critic(members=3)
    assert network(context(2), chunks(2, 5)).shape == (3, 2, 5, OUTPUT.horizon)
    values, loss = network.regress(context(2), chunks(2, 1), torch.zeros(2, 1, OUTPUT.horizon))
    assert values.shape == loss.shape == (3, 2, 1, OUTPUT.horizon)


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda config: config.kind)
def test_nothing_is_promising_before_a_reward_was_seen(output):
    assert critic(output)(context(4), chunks(4, 3)).abs().max() < 0.01
    assert StateValue(8, OUTPUT)(context(4)).abs().max() == 0


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda config: config.kind)
def test_it_learns_what_each_prefix_is_worth(output):
    network, actions = critic(output, members=1), chunks(64, 1)
    worth = (actions[..., 0].cumsum(-1) / 8 + 0.5).clamp(0, 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(150):
        loss = network.regress(context(64), actions, worth)[1].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    said = network(context(64), actions)[0]
    assert (said - worth).abs().mean() < 0.5 * (worth - worth.mean()).abs().mean()


@given(st.floats(0.0, 1.0))
def test_a_histogram_says_the_number_it_was_made_of(target: float):
    output = HLGauss(HLGauss.Config(low=-0.2, high=1.2, bins=71))
    histogram = output.histogram(torch.tensor([target]))
    torch.testing.assert_close(histogram.sum(-1), torch.ones(1))
    assert float(histogram @ output.centres) == pytest.approx(target, abs=1e-3)
    assert float(output.value((histogram + 1e-30).log())) == pytest.approx(target, abs=1e-3)


def test_a_target_outside_the_range_is_that_of_the_end():
    output = HLGauss(HLGauss.Config(low=0, high=1, bins=11))
    histogram = output.histogram(torch.tensor([-3.0, 7.0]))
    assert histogram.isfinite().all() and histogram[0].argmax() == 0 and histogram[1].argmax() == 10


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match=r"critic\.width: 10; expected a multiple of critic\.heads = 4"):
        ChunkCritic(ChunkCritic.Config(width=10), OUTPUT)
    with pytest.raises(ValidationError, match="low < high"):
        HLGauss.Config(low=1, high=0)

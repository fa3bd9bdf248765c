"""Real-time chunking for flow: the soft mask and the guidance weight of the paper, prefixes that are kept, followed and refused."""

import math
from functools import cache

import pytest
import torch
from toy_context import OUTPUT, context, fit

from heads.flow import Flow
from heads.flow_prefix import Kept
from heads.head import Prefix
from heads.prefix import soft_mask, soft_prefix
from robot_io import UserError

SHAPE = (OUTPUT.horizon, OUTPUT.action_dim)


@cache
def two_mode_head() -> Flow:
    torch.manual_seed(0)
    head = Flow(Flow.Config(expert={"width": 64, "depth": 2, "condition": 16, "dropout": 0.0}), OUTPUT)
    fit(head, 300, 3e-3)
    return head


def sides(batch: int) -> torch.Tensor:
    """Whole chunks of one mode, then of the other, in turn."""
    return (0.5 * (-1.0) ** torch.arange(batch)).view(-1, 1, 1).expand(batch, *SHAPE)


def kept(weights: list[float], largest: float = 5.0) -> Kept:
    return Kept(torch.zeros(1, len(weights), 1), torch.tensor(weights).unsqueeze(-1), largest)


def test_the_mask_is_that_of_the_paper():
    """H = 16, d = 4, s = 6: eq. 5 written out."""
    mask = soft_mask(frozen=4, given=10, horizon=16)
    assert mask[:4].eq(1).all() and mask[10:].eq(0).all()
    for i in range(4, 10):
        c = (16 - 6 - i) / (16 - 6 - 4 + 1)
        assert mask[i].item() == pytest.approx(c * (math.exp(c) - 1) / (math.e - 1))
    assert (mask.diff() <= 0).all()


@pytest.mark.parametrize(("frozen", "given"), [(0, 2), (2, 2), (3, 9)])
def test_a_prefix_of_any_length_becomes_one_of_the_horizon(frozen: int, given: int):
    actions = torch.rand(given, OUTPUT.action_dim)
    made = soft_prefix(actions, frozen, OUTPUT.horizon)
    length = min(given, OUTPUT.horizon)
    assert made.actions.shape == (1, *SHAPE) and torch.equal(made.actions[0, :length], actions[:length])
    assert made.frozen.shape == (OUTPUT.horizon,) and made.frozen[:frozen].eq(1).all() and made.frozen[given:].eq(0).all()


def test_the_weight_is_that_of_the_paper():
    """min(β, (1 - τ) / (τ r²)) with r² = (1 - τ)² / (τ² + (1 - τ)²)."""
    for tau in (0.1, 0.3, 0.5, 0.9):
        r2 = (1 - tau) ** 2 / (tau**2 + (1 - tau) ** 2)
        assert kept([1.0], largest=1e9).weight(1 - tau) == pytest.approx((1 - tau) / (tau * r2))
    assert kept([1.0]).weight(1.0) == kept([1.0]).weight(0.0) == 5.0


def test_the_pull_is_the_vector_jacobian_product_of_the_weighted_error():
    """For a linear field v = k·x, clean = (1 - t·k)·x, so the product is (1 - t·k) · W (y - clean)."""
    pull = Kept(torch.full((1, 2, 1), 0.7), torch.tensor([[1.0], [0.5]]), 2.0).pull(lambda chunk, time: 0.3 * chunk)
    chunk, time = torch.tensor([[[0.2], [-0.4]]]), 0.5
    share = 1 - 0.3 * time
    expected = 0.3 * chunk - 2.0 * share * torch.tensor([[[1.0], [0.5]]]) * (0.7 - share * chunk)
    torch.testing.assert_close(pull(chunk, time), expected)


@pytest.mark.parametrize("solver", ["euler", "heun", "midpoint"])
def test_a_frozen_prefix_is_kept_to_the_bit_and_gone_on_from(solver: str):
    head, actions = two_mode_head(), sides(2)
    head.config = head.config.model_copy(update={"solver": solver})
    frozen = torch.tensor([1.0, 1.0, 0.0, 0.0])
    drawn = head.sample(context(2), n=8, prefix=Prefix(actions * frozen[:, None], frozen))
    assert torch.equal(drawn[:, :, :2], actions[:, None, :2].expand(2, 8, 2, -1))
    assert ((drawn[:, :, 2:] * actions[:, None, 2:]).mean((2, 3)) > 0).float().mean() > 0.9


def test_a_soft_prefix_decides_the_mode_without_freezing_anything():
    head, actions = two_mode_head(), sides(4)
    drawn = head.sample(context(4), n=16, prefix=Prefix(actions, torch.full((4,), 0.6)))
    assert ((drawn * actions[:, None]).mean((2, 3)) > 0).float().mean() > 0.9


def test_it_works_where_inference_mode_forbids_gradients():
    with torch.inference_mode():
        seen = context(1)
        drawn = two_mode_head().sample(seen, prefix=Prefix(torch.rand(1, *SHAPE), torch.ones(OUTPUT.horizon)))
    assert drawn.shape == (1, 1, *SHAPE)


def test_a_prefix_that_weighs_nothing_changes_nothing():
    head, noise = two_mode_head(), torch.randn(2, 3, *SHAPE)
    free = Prefix(torch.rand(2, *SHAPE), torch.zeros(OUTPUT.horizon))
    found = head.sample(context(2), n=3, noise=noise, prefix=free)
    torch.testing.assert_close(found, head.sample(context(2), n=3, noise=noise))


def test_a_prefix_of_the_wrong_shape_is_refused():
    with pytest.raises(UserError, match="prefix"):
        two_mode_head().sample(context(2), prefix=Prefix(torch.zeros(2, 2, OUTPUT.action_dim), torch.ones(2)))

"""Best of N: the scorer's favourite among the head's own draws, whatever the scorer."""

import pytest
import torch
from toy_context import OUTPUT, all_valid, chunk, context

from heads.chooser import Chooser, agreement, smoothness
from heads.diffusion import Diffusion
from heads.head import Prefix
from heads.regression import Regression
from robot_io import UserError

SHAPE = (OUTPUT.horizon, OUTPUT.action_dim)


@pytest.fixture
def head() -> Diffusion:
    torch.manual_seed(0)
    made = Diffusion(Diffusion.Config(steps=2, denoiser={"width": 16, "depth": 1, "condition": 8}), OUTPUT).eval()
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return made


def highest(seen, actions):
    return actions.mean((2, 3))


def test_each_chunk_is_the_favourite_among_draws_of_its_own(head: Diffusion):
    torch.manual_seed(1)
    drawn = head.sample(context(3), n=10)
    torch.manual_seed(1)
    chosen = Chooser(head, highest, draws=5).sample(context(3), n=2)
    assert chosen.shape == (3, 2, *SHAPE)
    for sample in range(3):
        for group in range(2):
            candidates = drawn[sample, 5 * group : 5 * group + 5]
            assert torch.equal(chosen[sample, group], candidates[candidates.mean((1, 2)).argmax()])


def test_more_draws_score_higher(head: Diffusion):
    torch.manual_seed(0)
    means = [Chooser(head, highest, draws).sample(context(32)).mean().item() for draws in (1, 4, 16)]
    assert means == sorted(means) and means[0] < means[-1]


def test_agreement_stands_in_the_larger_mode_and_smoothness_prefers_the_straight():
    draws = torch.tensor([0.5, 0.52, 0.48, -0.5, 0.0]).view(1, 5, 1, 1).expand(1, 5, *SHAPE)
    assert agreement(context(1), draws).argmax() in (0, 1, 2)
    rough = torch.zeros(1, 2, *SHAPE)
    rough[:, 0, 1] = 1.0
    assert smoothness(context(1), rough).argmax() == 1


def test_a_prefix_reaches_the_head_and_noise_does_not(head: Diffusion):
    wrapped = Chooser(head, agreement, 4)
    kept = chunk(1)
    found = wrapped.sample(context(1), prefix=Prefix(kept, torch.ones(OUTPUT.horizon)))
    torch.testing.assert_close(found[:, 0], kept)
    with pytest.raises(UserError, match="noise"):
        wrapped.sample(context(1), noise=torch.zeros(1, 1, *SHAPE))
    torch.manual_seed(0)
    assert torch.isfinite(wrapped.loss(context(2), chunk(2), all_valid(2)).total)


def test_what_cannot_be_chosen_from_is_refused(head: Diffusion, tmp_path):
    with pytest.raises(UserError, match="one chunk"):
        Chooser(Regression(Regression.Config(), OUTPUT), agreement, 4).sample(context(1))
    with pytest.raises(UserError, match="one for each draw"):
        Chooser(head, lambda seen, actions: actions.mean(), 4).sample(context(1))
    with pytest.raises(UserError, match="at least 1"):
        Chooser(head, agreement, 0)
    with pytest.raises(UserError, match="after loading"):
        Chooser(head, agreement, 2).save_assets(tmp_path / "head")

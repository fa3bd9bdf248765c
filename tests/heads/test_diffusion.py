"""The diffusion head: parity with diffusers, masking, fitting, modes, `noise` and `guide`, and what it refuses."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from pydantic import ValidationError
from toy_context import OUTPUT, all_valid, assert_invalid_steps_do_not_count, chunk, context, fit

from heads.diffusion import Diffusion, hold_last
from robot_io import UserError

SMALL = {"repeats": 4, "denoiser": {"width": 64, "depth": 2, "condition": 16, "dropout": 0.0}}


def build(seed: int = 0, **options) -> Diffusion:
    torch.manual_seed(seed)
    return Diffusion(Diffusion.Config(**{**SMALL, **options}), OUTPUT)


def stirred(**options) -> Diffusion:
    """A head in evaluation mode whose zero-initialised layers have been filled, so that its output depends on its input."""
    head = build(**options).eval()
    for weight in head.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return head


@pytest.mark.parametrize("prediction", ["sample", "epsilon"])
def test_loss_equals_ddpm_written_with_diffusers(prediction):
    head = stirred(prediction=prediction, repeats=1)
    seen, clean = context(5), chunk(5)
    torch.manual_seed(3)
    found = head.loss(seen, clean, all_valid(5)).total
    torch.manual_seed(3)
    noise, step = torch.randn_like(clean), torch.randint(100, (5,))
    noisy = DDPMScheduler(100, beta_schedule="squaredcos_cap_v2").add_noise(clean, noise, step)
    predicted = head.denoiser(noisy, (step + 1) / 100, head.denoiser.condition(seen))
    expected = torch.nn.functional.mse_loss(predicted, clean if prediction == "sample" else noise)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("prediction", "spacing", "clip"), [
    ("sample", "trailing", 1.0), ("epsilon", "leading", 1.0), ("epsilon", "trailing", None),
])
def test_sample_equals_ddim_written_with_diffusers(prediction, spacing, clip):
    head = stirred(prediction=prediction, spacing=spacing, clip=clip)
    seen, noise = context(3), torch.randn(3, 1, OUTPUT.horizon, OUTPUT.action_dim)
    ddim = DDIMScheduler(100, beta_schedule="squaredcos_cap_v2", prediction_type=prediction, timestep_spacing=spacing,
                         clip_sample=clip is not None)
    ddim.set_timesteps(10)
    expected = noise[:, 0]
    for step in ddim.timesteps:
        level = torch.full((3,), (int(step) + 1) / 100)
        expected = ddim.step(head.denoiser(expected, level, head.denoiser.condition(seen)), step, expected).prev_sample
    torch.testing.assert_close(head.sample(seen, noise=noise)[:, 0], expected)


def test_invalid_steps_influence_neither_loss_nor_gradients():
    assert_invalid_steps_do_not_count(stirred())


def test_padding_holds_the_last_valid_action():
    actions = torch.arange(5.0).reshape(1, 5, 1)
    valid = torch.tensor([[False, True, True, False, False]])
    assert hold_last(actions, valid).flatten().tolist() == [0.0, 1.0, 2.0, 2.0, 2.0]


def test_a_batch_without_a_valid_step_gives_a_zero_loss():
    assert build().loss(context(2), chunk(2), ~all_valid(2)).total == 0.0


@pytest.mark.parametrize(("prediction", "steps", "share", "error"), [("sample", 150, 0.001, 0.01), ("epsilon", 400, 0.05, 0.1)])
def test_one_sample_is_learnt(prediction, steps, share, error):
    head, actions = build(prediction=prediction, repeats=64), chunk(1)
    first = head.loss(context(1), actions, all_valid(1)).total.item()
    last = fit(head, steps, 3e-3, seen=context(1), actions=actions)
    assert last < share * first
    assert (head.sample(context(1), n=32) - actions[:, None]).abs().mean() < error


def test_draws_visit_both_modes_and_nothing_between():
    head = build()
    fit(head, 200, 3e-3)
    draws = head.sample(context(4), n=64)
    assert draws.shape == (4, 64, OUTPUT.horizon, OUTPUT.action_dim)
    side = draws.mean((2, 3)).sign()[..., None, None]
    assert (draws - 0.5 * side).abs().amax((2, 3)).lt(0.25).all()  # the whole chunk takes one side
    assert 0.3 < (side > 0).float().mean() < 0.7


def test_noise_fixes_the_sample_whatever_torchs_seed():
    head, noise = stirred(), torch.randn(2, 3, OUTPUT.horizon, OUTPUT.action_dim)
    torch.manual_seed(1)
    first, free = head.sample(context(2), n=3, noise=noise), head.sample(context(2), n=3)
    torch.manual_seed(2)
    assert torch.equal(first, head.sample(context(2), n=3, noise=noise))
    assert not torch.equal(free, head.sample(context(2), n=3))


def test_draws_depend_on_their_own_sample_and_noise_alone():
    head, noise = stirred(), torch.randn(2, 3, OUTPUT.horizon, OUTPUT.action_dim)
    together = head.sample(context(2), n=3, noise=noise)
    seen = context(2)
    second = type(seen)(seen.hidden[1:], seen.mask[1:], seen.readout[1:])
    torch.testing.assert_close(together[1, 2], head.sample(second, noise=noise[1:, 2:])[0, 0])


@pytest.mark.parametrize("prediction", ["sample", "epsilon"])
def test_a_guide_chooses_the_mode(prediction):
    head = build(prediction=prediction)
    fit(head, 200, 3e-3)
    levels = []

    def upwards(actions, level):
        levels.append(level)
        assert actions.shape == (8, OUTPUT.horizon, OUTPUT.action_dim)
        assert actions.abs().max() <= 1.0
        return 2.0 * torch.ones_like(actions)

    guided = head.sample(context(2), n=4, guide=upwards)
    assert (guided > 0.25).all()
    assert all((level > 0).all() and (level <= 1).all() for level in levels)
    assert levels[0][0] > levels[-1][0]


@pytest.mark.parametrize("prediction", ["sample", "epsilon"])
def test_a_guide_without_gradient_changes_nothing(prediction):
    head, noise = stirred(prediction=prediction), torch.randn(1, 2, OUTPUT.horizon, OUTPUT.action_dim)
    unguided = head.sample(context(1), n=2, noise=noise)
    guided = head.sample(context(1), n=2, noise=noise, guide=lambda actions, level: torch.zeros_like(actions))
    assert torch.equal(guided, unguided)


def test_saved_weights_give_bit_equal_samples():
    head, noise = stirred(), torch.randn(1, 1, OUTPUT.horizon, OUTPUT.action_dim)
    other = build(seed=5).eval()
    other.load_state_dict(head.state_dict())
    assert torch.equal(head.sample(context(1), noise=noise), other.sample(context(1), noise=noise))


def test_condition_is_refused():
    with pytest.raises(UserError, match="condition"):
        build().sample(context(1), condition=torch.zeros(1))


def test_noise_of_the_wrong_shape_is_refused():
    with pytest.raises(UserError, match="noise"):
        build().sample(context(2), n=3, noise=torch.zeros(2, 1, OUTPUT.horizon, OUTPUT.action_dim))


def test_steps_that_do_not_divide_the_levels_are_refused():
    with pytest.raises(UserError, match="divisor"):
        build(steps=30)


@pytest.mark.parametrize("options", [
    {"step": 5}, {"prediction": "velocity"}, {"denoiser": {"widht": 3}}, {"denoiser": {"kind": "unet"}}, {"repeats": 0},
])
def test_a_wrong_configuration_is_refused(options):
    with pytest.raises(ValidationError):
        Diffusion.Config(**options)

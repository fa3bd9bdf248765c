"""The diffusion head: parity with diffusers, masking, fitting, modes, `noise` and `guide`, and what it refuses."""

from functools import cache

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from pydantic import ValidationError
from torch.nn.functional import mse_loss
from toy_context import OUTPUT, all_valid, assert_invalid_steps_do_not_count, chunk, context, fit

from heads.diffusion import Diffusion, hold_last
from heads.head import Prefix
from robot_io import UserError

SMALL = {"repeats": 4, "denoiser": {"width": 64, "depth": 2, "condition": 16, "dropout": 0.0}}
DENOISERS = {
    "mlp": SMALL["denoiser"],
    "unet": {"kind": "unet", "down_dims": (8, 16), "groups": 4, "step_embedding": 16, "condition": 16},
    "dit": {"kind": "dit", "width": 32, "depth": 2, "attention_heads": 2, "dropout": 0.0},
}


def build(seed: int = 0, **options) -> Diffusion:
    torch.manual_seed(seed)
    return Diffusion(Diffusion.Config(**{**SMALL, **options}), OUTPUT)


def stirred(**options) -> Diffusion:
    """A head in evaluation mode whose zero-initialised layers have been filled, so that its output depends on its input."""
    head = build(**options).eval()
    for weight in head.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return head


@cache
def two_mode_weights(prediction: str) -> dict[str, torch.Tensor]:
    head = build(prediction=prediction)
    fit(head, 200, 3e-3)
    return head.state_dict()


def two_mode_head(prediction: str = "sample", **options) -> Diffusion:
    """One that was trained on chunks of either side."""
    head = build(prediction=prediction, **options).eval()
    head.load_state_dict(two_mode_weights(prediction))
    torch.manual_seed(0)
    return head


@pytest.mark.parametrize(("prediction", "denoiser"), [("sample", "mlp"), ("epsilon", "mlp"), ("epsilon", "unet"), ("epsilon", "dit")])
def test_loss_equals_ddpm_written_with_diffusers(prediction, denoiser):
    head = stirred(prediction=prediction, repeats=1, denoiser=DENOISERS[denoiser])
    seen, clean = context(5), chunk(5)
    torch.manual_seed(3)
    found = head.loss(seen, clean, all_valid(5)).total
    torch.manual_seed(3)
    noise, step = torch.randn_like(clean), torch.randint(100, (5,))
    noisy = DDPMScheduler(100, beta_schedule="squaredcos_cap_v2").add_noise(clean, noise, step)
    predicted = head.denoiser(noisy, (step + 1) / 100, head.denoiser.condition(seen))
    expected = mse_loss(predicted, clean if prediction == "sample" else noise)
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


@pytest.mark.parametrize("denoiser", ["unet", "dit"])
def test_one_sample_is_learnt_by_the_larger_networks(denoiser):
    head, actions = build(repeats=16, denoiser=DENOISERS[denoiser]), chunk(1)
    first = head.loss(context(1), actions, all_valid(1)).total.item()
    assert fit(head, 60, 5e-3, seen=context(1), actions=actions) < 0.1 * first
    assert (head.sample(context(1), n=8) - actions[:, None]).abs().mean() < 0.15


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm-solver"])
def test_draws_visit_both_modes_and_nothing_between(sampler):
    head = two_mode_head(sampler=sampler)
    draws = head.sample(context(4), n=64)
    assert draws.shape == (4, 64, OUTPUT.horizon, OUTPUT.action_dim)
    side = draws.mean((2, 3)).sign()[..., None, None]
    assert (draws - 0.5 * side).abs().amax((2, 3)).lt(0.25).all()  # the whole chunk takes one side
    assert 0.3 < (side > 0).float().mean() < 0.7


@pytest.mark.parametrize("sampler", ["ddim", "dpm-solver"])
def test_noise_fixes_the_sample_whatever_torchs_seed(sampler):
    head, noise = stirred(sampler=sampler), torch.randn(2, 3, OUTPUT.horizon, OUTPUT.action_dim)
    torch.manual_seed(1)
    first, free = head.sample(context(2), n=3, noise=noise), head.sample(context(2), n=3)
    torch.manual_seed(2)
    assert torch.equal(first, head.sample(context(2), n=3, noise=noise))
    assert not torch.equal(free, head.sample(context(2), n=3))


@pytest.mark.parametrize("denoiser", DENOISERS)
def test_draws_depend_on_their_own_sample_and_noise_alone(denoiser):
    head, noise = stirred(denoiser=DENOISERS[denoiser]), torch.randn(2, 3, OUTPUT.horizon, OUTPUT.action_dim)
    together = head.sample(context(2), n=3, noise=noise)
    seen = context(2)
    second = type(seen)(seen.hidden[1:], seen.mask[1:], seen.readout[1:])
    torch.testing.assert_close(together[1, 2], head.sample(second, noise=noise[1:, 2:])[0, 0])


@pytest.mark.parametrize(("prediction", "sampler"), [("sample", "ddim"), ("epsilon", "ddim"), ("sample", "ddpm"), ("sample", "dpm-solver")])
def test_a_guide_chooses_the_mode(prediction, sampler):
    head = two_mode_head(prediction, sampler=sampler)
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


@pytest.mark.parametrize("sampler", ["ddim", "dpm-solver"])
@pytest.mark.parametrize("prediction", ["sample", "epsilon"])
def test_a_guide_without_gradient_changes_nothing(prediction, sampler):
    head, noise = stirred(prediction=prediction, sampler=sampler), torch.randn(1, 2, OUTPUT.horizon, OUTPUT.action_dim)
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
    {"step": 5}, {"prediction": "velocity"}, {"denoiser": {"widht": 3}}, {"denoiser": {"kind": "gan"}}, {"repeats": 0},
    {"sampler": "euler"}, {"condition_dropout": 1.0}, {"denoiser": {"kind": "unet", "width": 3}},
])
def test_a_wrong_configuration_is_refused(options):
    with pytest.raises(ValidationError):
        Diffusion.Config(**options)


def sides(batch: int) -> tuple:
    """Contexts whose readouts say which of both modes is meant, the chunks, and the side."""
    side = torch.randint(0, 2, (batch, 1, 1)).float() - 0.5
    seen = context(batch)
    readout = side.expand_as(seen.readout) * torch.linspace(-2, 2, OUTPUT.context_dim)
    return type(seen)(seen.hidden, seen.mask, readout), side.expand(batch, OUTPUT.horizon, OUTPUT.action_dim), side.flatten()


def test_condition_dropout_learns_what_is_likely_without_the_context():
    """With the context the chunk is on the side that it names, without it (guidance scale 0) on either."""
    torch.manual_seed(0)
    head = build(condition_dropout=0.5)
    seen, chunks, side = sides(64)
    fit(head, 200, 3e-3, seen=seen, actions=chunks)
    blind = build(condition_dropout=0.5, guidance_scale=0.0).eval()
    blind.load_state_dict(head.state_dict())
    assert (head.sample(seen, n=4).mean((2, 3)).sign() == side.sign()[:, None]).float().mean() > 0.95
    assert 0.3 < (blind.sample(seen, n=4).mean((2, 3)) > 0).float().mean() < 0.7


@pytest.mark.parametrize("denoiser", DENOISERS)
def test_guided_samples_equal_a_plain_loop_that_extrapolates(denoiser):
    head = stirred(prediction="epsilon", condition_dropout=0.1, guidance_scale=2.5, denoiser=DENOISERS[denoiser])
    seen, noise = context(3), torch.randn(3, 1, OUTPUT.horizon, OUTPUT.action_dim)
    condition = head.denoiser.condition(seen)
    nothing = head.unconditional.expand_as(condition)
    ddim = DDIMScheduler(100, beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing")
    ddim.set_timesteps(10)
    expected = noise[:, 0]
    for step in ddim.timesteps:
        level = torch.full((3,), (int(step) + 1) / 100)
        with_it, without = head.denoiser(expected, level, condition), head.denoiser(expected, level, nothing)
        expected = ddim.step(without + 2.5 * (with_it - without), step, expected).prev_sample
    torch.testing.assert_close(head.sample(seen, noise=noise)[:, 0], expected, rtol=1e-4, atol=1e-4)


def test_condition_dropout_is_for_training_alone():
    plain, dropping = stirred(), stirred(condition_dropout=0.9)
    dropping.load_state_dict(plain.state_dict(), strict=False)

    def loss(head: Diffusion) -> float:
        torch.manual_seed(0)
        return head.loss(context(4), chunk(4), all_valid(4)).total.item()

    assert loss(dropping) == loss(plain)
    assert loss(dropping.train()) != loss(plain.train())


def test_guidance_of_a_head_that_never_trained_without_its_context_is_refused():
    with pytest.raises(UserError, match="condition_dropout"):
        build(guidance_scale=2.0)


def test_policies_saved_before_samplers_could_be_chosen_keep_their_recipe_and_weights():
    """Their recipes' hash is of just these options; their weights are the denoiser's alone."""
    config = Diffusion.Config()
    assert list(config.model_dump()) == ["kind", "train_steps", "steps", "prediction", "schedule", "spacing", "clip", "repeats", "denoiser"]
    assert config.model_dump()["denoiser"] == {"kind": "mlp", "width": 384, "depth": 3, "condition": 192, "dropout": 0.1}
    assert {name.split(".")[0] for name in build().state_dict()} == {"denoiser"}


def test_what_differs_from_the_defaults_is_written_down():
    config = Diffusion.Config(sampler="ddpm", condition_dropout=0.1, guidance_scale=2.0, denoiser=DENOISERS["unet"])
    assert Diffusion.Config.model_validate(config.model_dump(mode="json")) == config
    assert config.model_dump()["sampler"] == "ddpm"


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm-solver"])
def test_a_frozen_prefix_is_kept_exactly_and_gone_on_from(sampler):
    """The first step is frozen on one side or the other: the free ones follow it there."""
    head = two_mode_head(sampler=sampler, steps=20)
    actions = torch.tensor([0.5, -0.5]).view(2, 1, 1).expand(2, OUTPUT.horizon, OUTPUT.action_dim)
    frozen = torch.tensor([True, True, False, False])
    drawn = head.sample(context(2), n=8, prefix=Prefix(actions.where(frozen[:, None], 0.0), frozen))
    assert torch.equal(drawn[:, :, :2], actions[:, None, :2].expand(2, 8, 2, -1))
    assert ((drawn[:, :, 2:] * actions[:, None, 2:]).mean((2, 3)) > 0).all()


def test_a_prefix_of_which_nothing_is_frozen_changes_nothing():
    head, noise = stirred(), torch.randn(2, 3, OUTPUT.horizon, OUTPUT.action_dim)
    free = Prefix(torch.rand(2, OUTPUT.horizon, OUTPUT.action_dim), torch.zeros(OUTPUT.horizon))
    assert torch.equal(head.sample(context(2), n=3, noise=noise, prefix=free), head.sample(context(2), n=3, noise=noise))


def test_the_more_a_step_is_frozen_the_nearer_it_stays():
    head, noise = two_mode_head(), torch.randn(2, 4, OUTPUT.horizon, OUTPUT.action_dim)
    actions = torch.full((2, OUTPUT.horizon, OUTPUT.action_dim), 0.2)
    distance = [(head.sample(context(2), n=4, noise=noise, prefix=Prefix(actions, torch.full((4,), weight)))
                 - 0.2).abs().mean().item() for weight in (0.0, 0.3, 0.7, 1.0)]
    assert distance == sorted(distance, reverse=True) and distance[-1] == 0.0


def test_a_prefix_of_the_wrong_shape_is_refused():
    with pytest.raises(UserError, match="prefix"):
        build().sample(context(2), prefix=Prefix(torch.zeros(2, 2, OUTPUT.action_dim), torch.ones(2)))

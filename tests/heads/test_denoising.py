"""The samplers: which levels they visit, parity with diffusers' own loops, and what they do to a distribution that is known."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from toy_context import OUTPUT, context

from heads.denoising import Schedule, sampler, visited
from heads.diffusion import Diffusion
from robot_io import UserError

LEVELS = 100
REFERENCES = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler, "dpm-solver": DPMSolverMultistepScheduler}


def head(**options) -> Diffusion:
    """With every weight filled, so that the output depends on all of the input."""
    torch.manual_seed(0)
    made = Diffusion(Diffusion.Config(denoiser={"width": 32, "depth": 1, "condition": 8}, **options), OUTPUT).eval()
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return made


def reference(name: str, prediction: str, clip: bool):
    """diffusers' scheduler as its documentation sets it up. Thresholding at 1 is DPM-Solver's way to clip at 1."""
    clipping = {"thresholding": clip, "sample_max_value": 1.0} if name == "dpm-solver" else {"clip_sample": clip}
    return REFERENCES[name](LEVELS, beta_schedule="squaredcos_cap_v2", prediction_type=prediction, timestep_spacing="trailing",
                            **clipping)


@pytest.mark.parametrize(("name", "steps"), [("ddpm", 7), ("ddpm", 1), ("ddim", 20), ("ddim", 1), ("dpm-solver", 17),
                                             ("dpm-solver", 7), ("dpm-solver", 1)])
@pytest.mark.parametrize(("prediction", "clip"), [("sample", 1.0), ("epsilon", 1.0), ("epsilon", None)])
def test_samples_equal_a_plain_loop_of_diffusers(name, steps, prediction, clip):
    compare(name, steps, prediction, clip)


def test_vo_dps_sampler_equals_a_plain_loop_of_diffusers():
    """All 100 levels, the noise predicted, estimates clipped at 1 (arXiv 2510.15530)."""
    compare("ddpm", 100, "epsilon", 1.0)


def compare(name: str, steps: int, prediction: str, clip: float | None) -> None:
    ours = head(sampler=name, steps=steps, prediction=prediction, clip=clip)
    seen, noise = context(3), torch.randn(3, 1, OUTPUT.horizon, OUTPUT.action_dim)
    torch.manual_seed(7)  # DDPM draws at every step
    found = ours.sample(seen, noise=noise)[:, 0]
    scheduler, condition = reference(name, prediction, clip is not None), ours.denoiser.condition(seen)
    scheduler.set_timesteps(steps)
    torch.manual_seed(7)
    expected = noise[:, 0]
    for step in scheduler.timesteps:
        predicted = ours.denoiser(expected, torch.full((3,), (int(step) + 1) / LEVELS), condition)
        expected = scheduler.step(predicted, step, expected).prev_sample
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 if clip else 1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("train_steps", [1, 50, 100])
def test_every_number_of_steps_begins_at_pure_noise_and_visits_as_many_levels(train_steps):
    for steps in range(1, train_steps + 1):
        levels = visited(train_steps, steps, "trailing")
        assert levels[0] == train_steps - 1 and levels[-1] >= 0
        assert levels == sorted(set(levels), reverse=True) and len(levels) == steps


@pytest.mark.parametrize("spacing", ["trailing", "leading"])
def test_levels_are_those_of_diffusers_where_they_divide(spacing):
    for steps in (1, 2, 4, 10, 50, 100):
        scheduler = DDIMScheduler(LEVELS, timestep_spacing=spacing)
        scheduler.set_timesteps(steps)
        assert visited(LEVELS, steps, spacing) == scheduler.timesteps.tolist()


def perfect(name: str, steps: int, spread: float, noise: torch.Tensor) -> torch.Tensor:
    """Denoise with the exact estimate for chunks drawn from N(0, spread²)."""
    schedule = Schedule(LEVELS, "squaredcos_cap_v2", "sample", None)
    chosen, chunk = sampler(name, schedule, steps, "trailing"), noise
    denoise = chosen.start()
    for level in chosen.levels:
        signal = schedule.signal(level)
        estimate = chunk * signal.sqrt() * spread**2 / (signal * spread**2 + 1 - signal)
        chunk = denoise(estimate, level, chunk)
    return chunk


@pytest.mark.parametrize(("name", "steps"), [("ddpm", 100), ("ddim", 50), ("dpm-solver", 20)])
def test_a_perfect_network_gives_the_distribution_it_was_trained_on(name, steps):
    torch.manual_seed(0)
    drawn = perfect(name, steps, 0.3, torch.randn(20_000, 1, 1))
    assert abs(drawn.mean()) < 0.01
    assert abs(drawn.std() - 0.3) < 0.02


def test_dpm_solver_is_closer_to_the_exact_path_than_ddim_in_as_many_steps():
    noise, spread = torch.linspace(-2, 2, 9).view(-1, 1, 1), 0.3
    error = {name: (perfect(name, 20, spread, noise) - spread * noise).abs().max() for name in ("ddim", "dpm-solver")}
    assert error["dpm-solver"] < 0.5 * error["ddim"]


def test_samples_taken_at_the_same_time_do_not_meet():
    schedule = Schedule(LEVELS, "squaredcos_cap_v2", "sample", 1.0)
    chosen = sampler("dpm-solver", schedule, 5, "trailing")
    starts, estimates = torch.randn(2, 1, 4, 3), 0.1 * torch.randn(2, 5, 1, 4, 3)

    def run(*which: int) -> list[torch.Tensor]:
        chunks, passes = {i: starts[i] for i in which}, {i: chosen.start() for i in which}
        for at, level in enumerate(chosen.levels):
            chunks = {i: passes[i](estimates[i, at], level, chunks[i]) for i in which}
        return list(chunks.values())

    together = run(0, 1)
    assert torch.equal(together[0], run(0)[0]) and torch.equal(together[1], run(1)[0])


@pytest.mark.parametrize(("name", "steps", "spacing", "said"), [
    ("ddim", 30, "trailing", "divisor"), ("ddpm", 30, "leading", "divisor"), ("dpm-solver", 30, "leading", "divisor"),
    ("dpm-solver", 101, "trailing", "at most"), ("ddpm", 200, "trailing", "at most"),
])
def test_steps_that_cannot_be_spaced_are_refused(name, steps, spacing, said):
    with pytest.raises(UserError, match=said):
        head(sampler=name, steps=steps, spacing=spacing)

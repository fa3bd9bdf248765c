"""The noise of the diffusion head and the samplers that remove it: DDPM, DDIM and DPM-Solver, as in diffusers.

- `ddpm` (Ho et al., arXiv 2006.11239) adds fresh noise at every step; what Diffusion Policy and VO-DP use, at all 100 levels.
- `ddim` (Song et al., arXiv 2010.02502), deterministic: the noise it starts from decides the chunk.
- `dpm-solver` (DPM-Solver++ 2M, Lu et al., arXiv 2211.01095), deterministic, second order: also uses the step before.

Shapes: N chunks at once, T = horizon, A action dimensions. A level is an integer, 0 (hardly any noise) … train_steps - 1.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from jaxtyping import Float, Int
from torch import Tensor

from robot_io import UserError

Step = Callable[[Tensor, int, Tensor], Tensor]
"""`step(predicted [N,T,A], level, noisy [N,T,A])` → the chunk at the next visited level, or clean after the last."""

SamplerName = Literal["ddpm", "ddim", "dpm-solver"]
Spacing = Literal["trailing", "leading"]


class Schedule:
    """How much noise each level has, and what the network is asked for."""

    def __init__(self, train_steps: int, name: str, prediction: Literal["sample", "epsilon"], clip: float | None) -> None:
        """
        Args:
            train_steps: number of levels.
            name: diffusers' name of the schedule.
            prediction: `sample` if the network predicts the clean chunk, `epsilon` if the noise.
            clip: bound of an estimate of the clean chunk, None for none.
        """
        self.train_steps, self.prediction, self.clip = train_steps, prediction, clip
        self.settings = {"num_train_timesteps": train_steps, "beta_schedule": name, "prediction_type": prediction}
        self.clipping = {"clip_sample": clip is not None, "clip_sample_range": clip or 1.0}
        self.ddpm = DDPMScheduler(**self.settings)

    def add_noise(self, clean: Float[Tensor, "n t a"], noise: Float[Tensor, "n t a"],
                  level: Int[Tensor, " n"]) -> Float[Tensor, "n t a"]:
        return self.ddpm.add_noise(clean, noise, level)

    def signal(self, level: int) -> Tensor:
        """ᾱ, the variance that the clean chunk still contributes; 1 - ᾱ is that of the noise."""
        return self.ddpm.alphas_cumprod[level]

    def clean(self, predicted: Float[Tensor, "n t a"], noisy: Float[Tensor, "n t a"], level: int) -> Float[Tensor, "n t a"]:
        """The network's estimate of the clean chunk, clipped."""
        if self.prediction == "epsilon":
            signal = self.signal(level).to(noisy)
            predicted = (noisy - (1 - signal).sqrt() * predicted) / signal.sqrt()
        return predicted if self.clip is None else predicted.clamp(-self.clip, self.clip)


@dataclass(frozen=True)
class Ancestral:
    """DDPM. `levels` are visited in this order."""

    levels: list[int]
    scheduler: DDPMScheduler

    def start(self) -> Step:
        return self.step

    def step(self, predicted: Tensor, level: int, noisy: Tensor) -> Tensor:
        return self.scheduler.step(predicted, level, noisy).prev_sample


class Implicit:
    """DDIM without noise (η = 0; eq. 12 of its paper): √ᾱ' · clean + √(1 - ᾱ') · noise, ᾱ' at the next level. Written out, unlike the
    others: diffusers' step costs as much as a third of a small network's pass. As there, the noise is that of the unclipped estimate."""

    def __init__(self, levels: list[int], schedule: Schedule) -> None:
        self.levels, self.schedule = levels, schedule
        signals = [float(schedule.signal(level)) for level in levels] + [1.0]
        self.roots = {level: (now**0.5, (1 - now) ** 0.5, after**0.5, (1 - after) ** 0.5)
                      for level, (now, after) in zip(levels, pairwise(signals), strict=True)}
        """√ᾱ and √(1 - ᾱ) of a level and of the one after it."""

    def start(self) -> Step:
        return self.step

    def step(self, predicted: Tensor, level: int, noisy: Tensor) -> Tensor:
        """In as few operations as it takes: each costs a fiftieth of a small network's pass."""
        signal, noise, signal_after, noise_after = self.roots[level]
        if self.schedule.prediction == "epsilon":
            clean = self._clipped(torch.sub(noisy, predicted, alpha=noise) / signal)
            return (signal_after * clean).add_(predicted, alpha=noise_after)
        kept = noise_after / noise
        return (kept * noisy).add_(predicted, alpha=-kept * signal).add_(self._clipped(predicted), alpha=signal_after)

    def _clipped(self, clean: Tensor) -> Tensor:
        clip = self.schedule.clip
        return clean if clip is None else clean.clamp(-clip, clip)


@dataclass(frozen=True)
class Multistep:
    """A sampler that remembers the step before: DPM-Solver. Fed with clean estimates, as it has no clipping of its own."""

    levels: list[int]
    schedule: Schedule
    scheduler: DPMSolverMultistepScheduler

    def start(self) -> Step:
        """Begin one sample; samples that run at the same time do not meet."""
        running = copy(self.scheduler)
        running.set_timesteps(timesteps=self.levels)

        def step(predicted: Tensor, level: int, noisy: Tensor) -> Tensor:
            return running.step(self.schedule.clean(predicted, noisy, level), level, noisy).prev_sample

        return step


def sampler(name: SamplerName, schedule: Schedule, steps: int, spacing: Spacing) -> Ancestral | Implicit | Multistep:
    """The way from noise to a chunk in `steps` steps.

    Raises:
        UserError: more steps than levels, or a number that the sampler cannot space evenly.
    """
    _require_steps(name, schedule.train_steps, steps, spacing)
    levels = visited(schedule.train_steps, steps, spacing)
    if name == "dpm-solver":
        settings: dict[str, Any] = schedule.settings | {"prediction_type": "sample"}
        return Multistep(levels, schedule, DPMSolverMultistepScheduler(**settings))
    if name == "ddpm":
        ddpm = DDPMScheduler(**schedule.settings, **schedule.clipping)
        ddpm.set_timesteps(timesteps=levels)
        return Ancestral(levels, ddpm)
    return Implicit(levels, schedule)


def visited(train_steps: int, steps: int, spacing: Spacing) -> list[int]:
    """The levels of a sample in `steps` steps, falling: `trailing` starts at pure noise, `leading` ends at level 0 (Lin et al., arXiv
    2305.08891, table 2). Computed here: for some numbers of steps (29 of 100, say), rounding gives diffusers' list a level -1."""
    if spacing == "leading":
        return [train_steps // steps * index for index in reversed(range(steps))]
    return [round(train_steps - train_steps / steps * index) - 1 for index in range(steps)]


def _require_steps(name: str, train_steps: int, steps: int, spacing: str) -> None:
    if steps > train_steps:
        raise UserError("head.steps", f"{steps}", f"at most train_steps = {train_steps}", "lower head.steps")
    if train_steps % steps and (name == "ddim" or spacing == "leading"):
        why = "DDIM steps" if name == "ddim" else "steps of spacing 'leading'"
        raise UserError("head.steps", f"{steps} {why}", f"a divisor of train_steps = {train_steps}",
                        "choose such a number, or head.sampler=dpm-solver with head.spacing=trailing, which takes any")

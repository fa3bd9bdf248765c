"""The arithmetic of conditional flow matching (Lipman et al., arXiv 2210.02747), with π0's conventions (arXiv 2410.24164, app. B).

Time runs from 1, pure noise, to 0, the clean chunk: x_t = t · noise + (1 - t) · clean, a straight line whose velocity is
noise - clean. (This is the direction of π0's code; its paper counts τ = 1 - t.) Sampling integrates a velocity field from 1 to 0.

Shapes: N chunks at once, T = horizon, A action dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.distributions import Beta

from heads.head import Guide
from robot_io.registry import ComponentConfig

VelocityField = Callable[[Tensor, float], Tensor]
"""`field(chunk [N, T, A], time)` → the velocity there, `[N, T, A]`."""


class BetaTime(ComponentConfig):
    """π0's: scale · Beta(alpha, beta) + 1 - scale, so that a network sees much noise more often than little."""

    kind: Literal["beta"] = "beta"
    alpha: float = Field(default=1.5, gt=0.0)
    beta: float = Field(default=1.0, gt=0.0)
    scale: float = Field(default=0.999, gt=0.0, le=1.0)

    def draw(self, count: int, device: torch.device) -> Float[Tensor, " count"]:
        """`count` times in (1 - scale, 1]."""
        shape = [torch.tensor(value, dtype=torch.float32, device=device) for value in (self.alpha, self.beta)]
        return self.scale * Beta(*shape).sample((count,)) + (1.0 - self.scale)


class UniformTime(ComponentConfig):
    """All times equally often."""

    kind: Literal["uniform"] = "uniform"

    def draw(self, count: int, device: torch.device) -> Float[Tensor, " count"]:
        """`count` times in [0, 1)."""
        return torch.rand(count, device=device)


def between(clean: Float[Tensor, "n t a"], noise: Float[Tensor, "n t a"], time: Float[Tensor, " n"]) -> Float[Tensor, "n t a"]:
    """x_t, on the line from the chunk (time 0) to the noise (time 1)."""
    time = time.to(clean.dtype)[:, None, None]
    return time * noise + (1.0 - time) * clean


def euler(field: VelocityField, chunk: Tensor, steps: int) -> Tensor:
    """First order: one evaluation a step."""
    for index in range(steps):
        chunk = torch.sub(chunk, field(chunk, 1.0 - index / steps), alpha=1.0 / steps)
    return chunk


def heun(field: VelocityField, chunk: Tensor, steps: int) -> Tensor:
    """Second order: the mean of the velocities at both ends of a step; two evaluations each."""
    for index in range(steps):
        here = field(chunk, 1.0 - index / steps)
        ahead = field(chunk - here / steps, 1.0 - (index + 1) / steps)
        chunk = chunk - (here + ahead) / (2 * steps)
    return chunk


def midpoint(field: VelocityField, chunk: Tensor, steps: int) -> Tensor:
    """Second order: the velocity in the middle of a step; two evaluations each."""
    for index in range(steps):
        time = 1.0 - index / steps
        halfway = chunk - field(chunk, time) / (2 * steps)
        chunk = chunk - field(halfway, time - 0.5 / steps) / steps
    return chunk


SOLVERS = {"euler": euler, "heun": heun, "midpoint": midpoint}
SolverName = Literal["euler", "heun", "midpoint"]


def uncertainty(time: float) -> float:
    """The variance of the clean chunk given x_t, for a unit Gaussian prior: t² / (t² + (1 - t)²). 1 - ᾱ in diffusion's terms."""
    return time**2 / (time**2 + (1.0 - time) ** 2)


def guided(field: VelocityField, guide: Guide) -> VelocityField:
    """The field, turned so that its estimate of the clean chunk moves by variance · gradient, as in `heads.diffusion`: the exact
    posterior mean under a linear log-reward, if the prior is a unit Gaussian."""

    def turned(chunk: Tensor, time: float) -> Tensor:
        velocity, variance = field(chunk, time), uncertainty(time)
        if variance == 0.0:
            return velocity
        gradient = guide(chunk - time * velocity, torch.full((len(chunk),), variance, device=chunk.device))
        return velocity - variance / time * gradient

    return turned

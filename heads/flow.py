"""Flow matching over chunks of actions, given the context: π0's head (Black et al., arXiv 2410.24164) at any size.

A network (`heads.experts`) is trained to predict the velocity noise - clean on the straight line between a chunk and noise, at
times drawn from a Beta distribution that favours noise; a chunk is sampled by integrating that velocity with Euler, Heun or
midpoint steps (`heads.flow_matching`). For π0's published weights take `head.kind=pi0`; loss and Euler steps are the same.

Shapes: B samples, n draws, R repeats, T = horizon, A action dimensions.
In: what the expert reads, from readouts to the keys and values of every layer. Out: `[B,n,T,A]`, normalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from backbones.context import Context
from heads.denoisers import ResidualMLP
from heads.diffusion import hold_last
from heads.draws import initial_noise, own_noise, require_guidable
from heads.experts import ExpertConfig, Seen, make_expert
from heads.flow_matching import (
    SOLVERS,
    BetaTime,
    SolverName,
    UniformTime,
    VelocityField,
    between,
    guided,
)
from heads.flow_prefix import Kept, differentiable
from heads.head import Guide, Head, Loss, Output, Prefix
from robot_io.registry import ComponentConfig


class Flow(Head):
    """Flow-matched action chunk.

    `noise [B,n,T,A]` fixes the sample. `guide` sees the current estimate of the clean chunk and, as its level, the variance that
    is left in it (1 … 0); the gradient it returns moves the estimate. `prefix` freezes first steps and pulls those after them
    (real-time chunking, `heads.flow_prefix`).
    """

    supports = frozenset({"noise", "guide", "prefix"})
    repeated = "expert"
    sampling = frozenset({"steps", "solver", "guidance_scale", "prefix_weight"})

    class Config(ComponentConfig):
        """How to flow.

        Attributes:
            steps: of the solver; `heun` and `midpoint` evaluate the network twice in each.
            solver: how the velocity is integrated.
            time: how training draws its times.
            repeats: R, times drawn per sample and training step; the context is computed once for all of them.
            expert: the network; `kind` is mlp if not said.
            prediction: what the network gives: the velocity, as in π0, or the clean chunk, of which the velocity follows. The chunk is
                the simpler function, learnt in fewer steps (Li and He, arXiv 2511.13720).
            condition_dropout, guidance_scale: classifier-free guidance, as in `heads.diffusion`.
            prefix_weight: bound of the weight with which a chunk is pulled towards the one before (β of real-time chunking).
        """

        kind: Literal["flow"] = "flow"
        steps: int = Field(default=10, ge=1)
        solver: SolverName = "euler"
        time: BetaTime | UniformTime = Field(default=BetaTime(), discriminator="kind")
        repeats: int = Field(default=4, ge=1)
        prediction: Literal["velocity", "sample"] = "velocity"
        expert: ExpertConfig = ResidualMLP.Config()
        condition_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
        guidance_scale: float = Field(default=1.0, ge=0.0)
        prefix_weight: float = Field(default=5.0, ge=0.0)

    def __init__(self, config: Config, output: Output) -> None:
        super().__init__()
        require_guidable(config.guidance_scale, config.condition_dropout)
        self.config, self.output = config, output
        self.expert = make_expert(config.expert, output)
        if config.condition_dropout > 0.0:
            self.unconditional = nn.ParameterList(torch.zeros(shape) for shape in self.expert.condition_shapes)

    def loss(self, context: Context, actions: Float[Tensor, "b t a"], valid: Bool[Tensor, "b t"]) -> Loss:
        """Mean squared error of what the network predicts over the valid steps, at R random times per sample."""
        repeats = self.config.repeats
        seen = self.expert.condition(context).repeat(repeats)
        clean = hold_last(actions, valid).repeat_interleave(repeats, 0)
        time = self.config.time.draw(len(clean), clean.device)
        noise = torch.randn_like(clean)
        if self.training and self.config.condition_dropout > 0.0:
            seen = seen.hide(self.unconditional, torch.rand_like(time) < self.config.condition_dropout)
        predicted = self.expert(between(clean, noise, time), time, seen)
        wanted = noise - clean if self.config.prediction == "velocity" else clean
        error = (predicted - wanted).square().mean(-1)
        counted = valid.repeat_interleave(repeats, 0)
        total = torch.where(counted, error, 0.0).sum() / counted.sum().clamp(min=1)
        return Loss(total, {"mse": total.detach()})

    def draw_noise(self, generators: Sequence[torch.Generator], batch: int, n: int) -> Float[Tensor, "b n t a"] | None:
        return own_noise(generators, batch, n, self.output)

    def sample(self, context: Context, *, n: int = 1, noise: Tensor | None = None, guide: Guide | None = None,
               condition: Tensor | None = None, prefix: Prefix | None = None) -> Float[Tensor, "b n t a"]:
        """Integrate n chunks per sample from noise, in `config.steps` steps of `config.solver`. No gradient flows through the
        result if there is a `prefix`."""
        self.refuse_unsupported(condition=condition)
        seen = self.expert.condition(context)
        shape = (len(context.mask), n, self.output.horizon, self.output.action_dim)
        noise = initial_noise(shape, noise, like=seen.parts[0]).flatten(0, 1)
        if prefix is not None:
            with differentiable(Kept.of(prefix, shape, noise, self.config.prefix_weight), noise) as (kept, noise):
                field = self.field(seen.repeat(n).each(torch.clone), guide)
                return kept.follow(field, noise, self.integrate).view(shape)
        return self.integrate(self.field(seen.repeat(n), guide), noise).view(shape)

    def integrate(self, field: VelocityField, noise: Float[Tensor, "n t a"]) -> Float[Tensor, "n t a"]:
        return SOLVERS[self.config.solver](field, noise, self.config.steps)

    def field(self, seen: Seen, guide: Guide | None) -> VelocityField:
        """The velocity for these contexts, turned by `guide` if there is one."""
        field = self.unguided(seen)
        return field if guide is None else guided(field, guide)

    def unguided(self, seen: Seen) -> VelocityField:
        """The velocity, with classifier-free guidance if configured: both predictions in one pass."""
        scale = self.config.guidance_scale
        both = seen if scale == 1.0 else seen.and_blind(self.unconditional)

        def predict(chunk: Tensor, time: float) -> Tensor:
            if scale == 1.0:
                return self.expert(chunk, torch.full((len(chunk),), time, device=chunk.device), seen)
            times = torch.full((2 * len(chunk),), time, device=chunk.device)
            seeing, blind = self.expert(chunk.repeat(2, 1, 1), times, both).chunk(2)
            return blind + scale * (seeing - blind)

        if self.config.prediction == "velocity":
            return predict
        shortest = 0.5 / self.config.steps  # at time 0, where Heun looks, the velocity would be divided by nothing
        return lambda chunk, time: (chunk - predict(chunk, time)) / max(time, shortest)

"""The one-step student of a head that denoises: the same chunk for the same noise, in one pass of the network.

Flow Q-Learning's distillation (Park et al., arXiv 2502.02538, sec. 4): with noise z the student's μ(context, z) regresses what
the frozen teacher's whole sampler makes of z. What is deterministic given its noise can be such a teacher (`flow`, `diffusion`
with DDIM or DPM-Solver, `pi0`), and modes stay apart, because the noise says which one is meant. `vla.distill` trains it.

A student of the teacher's own network starts from the teacher's weights, as the teacher with a single step.

Shapes: B samples, n draws, R repeats, T = horizon, A action dimensions. In: what the expert reads. Out: `[B,n,T,A]`, normalised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from backbones.context import Context
from heads.denoisers import ResidualMLP
from heads.diffusion import Diffusion
from heads.draws import initial_noise, own_noise
from heads.experts import ExpertConfig, Seen, make_expert
from heads.flow import Flow
from heads.head import Guide, Head, Loss, Output, Prefix
from robot_io import UserError
from robot_io.registry import ComponentConfig


class OneStep(Head):
    """Maps noise to a chunk. `noise [B,n,T,A]` fixes the sample."""

    supports = frozenset({"noise"})

    class Config(ComponentConfig):
        """The student.

        Attributes:
            prediction: what the network gives at time 1: the velocity, so that the chunk is noise - velocity, or the chunk itself.
            expert: the network, one of those of `heads.flow`; the teacher's own if not said.
            repeats: R, noises drawn per sample and training step; context and teacher are run once for all of them.
            teacher: digest of the policy whose student this is.
        """

        kind: Literal["one_step"] = "one_step"
        prediction: Literal["velocity", "sample"] = "velocity"
        expert: ExpertConfig = ResidualMLP.Config()
        repeats: int = Field(default=4, ge=1)
        teacher: str | None = None

    def __init__(self, config: Config, output: Output) -> None:
        super().__init__()
        self.config, self.output = config, output
        self.expert = make_expert(config.expert, output)
        self.teach: Callable[[Context, Tensor], Tensor] | None = None

    def learn_from(self, teacher: Head) -> None:
        """Take `teacher` for the training that follows; it is no part of this module. Start from its weights, if they fit.

        Raises:
            UserError: it cannot be told which noise to start from, or draws more on the way.
        """
        require_teacher(teacher)
        teacher.requires_grad_(False).eval()
        network = network_of(teacher)
        if network is not None and network[0] == self.config.expert:
            own = self.expert if isinstance(teacher, Flow) else self.expert.denoiser
            own.load_state_dict(network[1].state_dict())

        def teach(context: Context, noise: Tensor) -> Tensor:
            return teacher.to(noise.device).sample(context, n=noise.shape[1], noise=noise)

        self.teach = teach

    def loss(self, context: Context, actions: Float[Tensor, "b t a"], valid: Bool[Tensor, "b t"]) -> Loss:
        """Mean squared distance to the teacher's chunks, for R noises per sample. Demonstrated actions play no part, and
        a teacher's chunk is valid to its end.

        Raises:
            UserError: there is no teacher.
        """
        if self.teach is None:
            raise UserError("head 'one_step'", "has no teacher; it does not learn from demonstrations", "a trained policy to distil",
                            "train flow or diffusion, then run: vla distill RUN/policy")
        shape = (len(actions), self.config.repeats, self.output.horizon, self.output.action_dim)
        noise = torch.randn(shape, device=actions.device, dtype=actions.dtype)
        with torch.no_grad():
            wanted = self.teach(context, noise)
        seen = self.expert.condition(context).repeat(self.config.repeats)
        total = (self.chunk(noise.flatten(0, 1), seen) - wanted.flatten(0, 1)).square().mean()
        return Loss(total, {"mse": total.detach()})

    def draw_noise(self, generators: Sequence[torch.Generator], batch: int, n: int) -> Float[Tensor, "b n t a"] | None:
        return own_noise(generators, batch, n, self.output)

    def sample(self, context: Context, *, n: int = 1, noise: Tensor | None = None, guide: Guide | None = None,
               condition: Tensor | None = None, prefix: Prefix | None = None) -> Float[Tensor, "b n t a"]:
        """n chunks per sample, each in one pass."""
        self.refuse_unsupported(guide=guide, condition=condition, prefix=prefix)
        seen = self.expert.condition(context)
        shape = (len(context.mask), n, self.output.horizon, self.output.action_dim)
        noise = initial_noise(shape, noise, like=seen.parts[0])
        return self.chunk(noise.flatten(0, 1), seen.repeat(n)).unflatten(0, shape[:2])

    def chunk(self, noise: Float[Tensor, "n t a"], seen: Seen) -> Float[Tensor, "n t a"]:
        """μ(context, noise)."""
        predicted = self.expert(noise, torch.ones(len(noise), device=noise.device), seen)
        return predicted if self.config.prediction == "sample" else noise - predicted


def student_of(teacher: Head) -> OneStep.Config:
    """The student that is most like `teacher`: its own network, and what that network predicts, where it can be told.

    A diffusion that predicts the noise ε gets a student that predicts the velocity: at the level of pure noise both are nearly z.

    Raises:
        UserError: this head cannot teach.
    """
    require_teacher(teacher)
    network = network_of(teacher)
    if network is None:
        return OneStep.Config(expert={"kind": "cross"})
    sample = isinstance(teacher, Diffusion | Flow) and teacher.config.prediction == "sample"
    return OneStep.Config(expert=network[0], prediction="sample" if sample else "velocity")


def network_of(teacher: Head) -> tuple[ComponentConfig, nn.Module] | None:
    """Configuration and module of the teacher's network, if it is one that a student can have, too."""
    if isinstance(teacher, Flow):
        return teacher.config.expert, teacher.expert
    if isinstance(teacher, Diffusion):
        return teacher.config.denoiser, teacher.denoiser
    return None


def require_teacher(teacher: Head) -> None:
    """Refuse a head that is not a function of context and noise."""
    if "noise" not in teacher.supports:
        raise UserError(f"teacher {type(teacher).__name__}", "cannot be told which noise to start from",
                        "a head that honours noise", "distil a policy with head.kind flow or diffusion")
    if isinstance(teacher, Diffusion) and teacher.config.sampler == "ddpm":
        raise UserError("teacher Diffusion", "its sampler, ddpm, draws new noise at every step", "a deterministic sampler",
                        "train the teacher with head.sampler=ddim or dpm-solver")

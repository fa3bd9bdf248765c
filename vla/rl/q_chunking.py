"""Q-chunking (Li, Zhou and Levine, arXiv 2507.07969): the best of N chunks that imitation draws, or that policy in one step.

- critic: every prefix on its own return; the bootstrap is the best of N chunks that the imitation head draws in the next state, by the
  lower of the target critics. Contexts are fixed, so these draws are made once for every frame.
- `extract: best_of` (their QC): the head stays as it is, and acts by drawing N and choosing (`heads.best_of`).
- `extract: distil` (their QC-FQL; FQL, arXiv 2502.02538): a one-step student (`heads.one_step`) learns to go where the many-step head goes
  from the same noise, and up the critic. One step to act with, no critic.

Needs a head that draws; to distil it, one that honours `noise`, such as diffusion or flow.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from backbones.context import Context
from heads.best_of import BestOf, by_critic
from heads.chooser import Chooser
from heads.critic import ChunkCritic
from heads.head import Head, Loss, Output
from heads.one_step import OneStep, student_of
from robot_io import UserError
from robot_io.registry import ComponentConfig
from vla.rl.algorithm import Algorithm, Batch, draws, follower, move, values_fixed
from vla.rl.contexts import in_parts, rows

AT_ONCE = 256


class QChunking(Algorithm):
    """See the module's text."""

    tunes_backbone = False

    class Config(ComponentConfig):
        """Its numbers.

        Attributes:
            extract: what acts in the end.
            draws: N while acting.
            bootstrap_draws: N for the bootstrap.
            distil_weight: of the distance to the many-step head, against values scaled to 1.
            actor_after: steps that the critic learns alone first (`distil`).
        """

        kind: Literal["q_chunking"] = "q_chunking"
        extract: Literal["best_of", "distil"] = "best_of"
        draws: int = Field(32, ge=1)
        bootstrap_draws: int = Field(8, ge=1)
        distil_weight: float = Field(10.0, ge=0)
        actor_after: int = Field(500, ge=0)

    def __init__(self, config: Config, head: Head, critic: ChunkCritic, chunk: int, output: Output) -> None:
        teacher = follower(head)
        if config.extract == "distil":
            head = OneStep(student_of(teacher), output)
            head.learn_from(teacher)
        super().__init__(head, critic, chunk)
        self.config, self.teacher, self.slow_head = config, teacher, follower(head)
        self.register_buffer("candidates", None, persistent=False)

    def prepare(self, contexts: Context) -> None:
        require_draws(self.teacher, contexts)
        if self.config.extract == "best_of":
            self.candidates = candidates(self.teacher, contexts, self.config.bootstrap_draws)

    def actor_loss(self, batch: Batch) -> Loss | None:
        if self.config.extract == "best_of" or batch.step < self.config.actor_after:
            return None
        noise = torch.randn(len(batch.actions), 1, *batch.actions.shape[1:])
        with torch.no_grad():
            wanted = self.teacher.sample(batch.seen, noise=noise)
        chunk = self.head.sample(batch.seen, noise=noise)
        apart = (chunk - wanted).square().mean()
        value = values_fixed(self.critic, batch.context, chunk[:, :, : batch.chunk.shape[2]])[..., -1].mean()
        total = self.config.distil_weight * apart - value / value.detach().abs().clamp(min=1e-3)
        return Loss(total, {"q_policy": value.detach(), "apart": apart.detach()})

    def state_values(self, context: Context, seen: Context, index: Int[Tensor, " b"]) -> Tensor:
        proposed = self.candidates[index] if self.candidates is not None else self.slow_head.sample(seen)
        return self.target(context, proposed[:, :, : self.chunk]).amin(0)[..., -1].amax(1)

    def act(self, context: Context, seen: Context) -> Float[Tensor, "b 1 h a"]:
        if self.config.extract == "distil":
            return self.head.sample(seen)
        return Chooser(self.head, by_critic(self.critic, self.chunk), self.config.draws).sample(seen)

    def follow(self, tau: float) -> None:
        super().follow(tau)
        if self.config.extract == "distil":
            move(self.slow_head, self.head, tau)

    def acting(self, config: ComponentConfig, output: Output) -> tuple[ComponentConfig, Head]:
        if self.config.extract == "distil":
            return self.head.config, self.head
        return best_of(config, self.head, self.critic, self.config.draws, self.chunk, output)


@torch.no_grad()
def candidates(head: Head, contexts: Context, draws: int) -> Float[Tensor, "n m h a"]:
    """Chunks that imitation draws for every frame, once for the whole run."""
    return in_parts(len(contexts.readout), AT_ONCE, lambda part: head.sample(rows(contexts, part), n=draws))


def require_draws(head: Head, contexts: Context) -> None:
    """
    Raises:
        UserError: the head proposes one chunk.
    """
    if not draws(head, contexts):
        raise UserError(f"head {type(head).__name__}", "always proposes the same chunk; there is nothing to choose from",
                        "a head that draws: diffusion, flow, or tokens at a temperature above 0",
                        "open tokens with open=['head.temperature=0.7'], use algorithm.kind=co_rft or iql, or imitate with head.kind=diffusion"
                        " first")


def best_of(config: ComponentConfig, head: Head, critic: ChunkCritic, draws: int, read: int,
            output: Output) -> tuple[ComponentConfig, Head]:
    """A head and its critic as one head that chooses."""
    both = BestOf.Config(head=config, critic=critic.config, draws=draws, read=None if read == output.horizon else read)
    return both, BestOf(both, output, head, critic)

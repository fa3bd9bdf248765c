"""CO-RFT (arXiv 2508.02219): imitation first, then calibrated chunked TD, and a deterministic policy that climbs the critic (TD3).

- critic (eq. 6 and 8): every prefix of the chunk is regressed on its own i-step return, whose bootstrap is the whole next chunk of the
  policy's, the lower of twin targets (TD3, arXiv 1802.09477); the values of the policy's prefixes are pushed down to the Monte-Carlo return.
- actor (eq. 9): minus the mean value of all prefixes of its chunk, scaled by the values' size as in TD3+BC (arXiv 2106.06860), plus its
  own imitation loss on successful episodes. The paper does not say whether it regularises; without, it drifts off the data.

Needs a head whose chunk is a differentiable function of the context, such as `regression`.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from backbones.context import Context
from heads.critic import ChunkCritic
from heads.head import Head, Loss, Output
from robot_io import UserError
from robot_io.registry import ComponentConfig
from vla.rl.algorithm import Algorithm, Batch, follower, follows_gradients, imitation, masked_mean, move, values_fixed
from vla.rl.conservative import push


class CoRFT(Algorithm):
    """See the module's text."""

    class Config(ComponentConfig):
        """Its weights.

        Attributes:
            conservative: α of the calibrated push (eq. 8); 0 for none.
            floor: hold values up at the Monte-Carlo return; without it, this is CQL.
            bc_weight: of the imitation loss in the actor's.
            smoothing, smoothing_clip: noise on the target policy's actions, normalised units (TD3).
            actor_every: critic steps to one actor step.
            actor_after: steps that the critic learns alone first.
        """

        kind: Literal["co_rft"] = "co_rft"
        conservative: float = Field(0.1, ge=0)
        floor: bool = True
        bc_weight: float = Field(1.0, ge=0)
        smoothing: float = Field(0.1, ge=0)
        smoothing_clip: float = Field(0.2, ge=0)
        actor_every: int = Field(2, ge=1)
        actor_after: int = Field(500, ge=0)

    def __init__(self, config: Config, head: Head, critic: ChunkCritic, chunk: int, output: Output) -> None:
        super().__init__(head, critic, chunk)
        self.config, self.slow_head = config, follower(head)

    def prepare(self, contexts: Context) -> None:
        if not follows_gradients(self.head, contexts):
            raise UserError(f"head {type(self.head).__name__}", "draws its chunks; CO-RFT follows the gradient of one",
                            "a deterministic head, such as regression",
                            "use algorithm.kind=q_chunking or iql, or imitate with head.kind=regression first")

    def critic_loss(self, batch: Batch) -> Loss:
        value, error = self.critic.regress(batch.context, batch.chunk, batch.target[:, None])
        total = masked_mean(error, batch.valid)
        parts = {"td": total.detach(), "q": masked_mean(value.detach(), batch.valid)}
        if self.config.conservative > 0:
            with torch.no_grad():
                tried = self.head.sample(batch.seen)[:, :, : batch.chunk.shape[2]]
            pushed = push(self.critic(batch.context, tried), value, batch.valid, floor=batch.mc if self.config.floor else None)
            total = total + self.config.conservative * pushed
            parts["pushed"] = pushed.detach()
        return Loss(total, parts)

    def actor_loss(self, batch: Batch) -> Loss | None:
        if batch.step < self.config.actor_after or batch.step % self.config.actor_every:
            return None
        return climb(self.head, self.critic, batch, self.config.bc_weight)

    def state_values(self, context: Context, seen: Context, index: Tensor) -> Tensor:
        chunk = self.slow_head.sample(seen)[:, :, : self.chunk]
        noise = (torch.randn_like(chunk) * self.config.smoothing).clamp(-self.config.smoothing_clip, self.config.smoothing_clip)
        return self.target(context, chunk + noise).amin(0)[:, 0, -1]

    def follow(self, tau: float) -> None:
        super().follow(tau)
        move(self.slow_head, self.head, tau)


def climb(head: Head, critic: ChunkCritic, batch: Batch, bc_weight: float) -> Loss:
    """The deterministic policy's loss: up the first critic's values, all prefixes alike, and near successful episodes."""
    chunk = head.sample(batch.seen)[:, :, : batch.chunk.shape[2]]
    value = values_fixed(critic, batch.context, chunk)[0].mean()
    copied = imitation(head, batch, batch.success)
    total = bc_weight * copied - value / value.detach().abs().clamp(min=1e-3)
    return Loss(total, {"q_policy": value.detach(), "bc": copied.detach()})

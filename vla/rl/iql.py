"""IQL (Kostrikov et al., arXiv 2110.06169) with chunks: values without asking what an unseen action is worth.

- V(s) is the upper expectile of the target critic's value of what was done (eq. 5): near the best that the data did from s.
- Q of every prefix is regressed on its return plus γ^i V(s_{t+i}) (eq. 6).
- the actor imitates with weights exp(β · advantage) (eq. 7, AWR, arXiv 1910.00177). A batch is drawn again in proportion to these weights
  instead of weighting a loss, so that any head learns by its own loss: diffusion, flow, tokens, regression.

`beta = 0` is imitation of whatever is drawn, without a critic: the control to compare with; `successes_only` leaves failures to the critic.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from backbones.context import Context
from heads.critic import ChunkCritic, StateValue
from heads.head import Head, Loss, Output
from robot_io.registry import ComponentConfig
from vla.rl.algorithm import Algorithm, Batch, masked_mean


class IQL(Algorithm):
    """See the module's text."""

    class Config(ComponentConfig):
        """Its weights.

        Attributes:
            expectile: τ; 0.5 values the behaviour, towards 1 the best of it.
            beta: inverse temperature of the advantage.
            clip: largest weight of a sample, against one whose advantage is 0.
            value_width: of V's network.
            successes_only: the actor imitates successful episodes alone.
            actor_after: steps that the critic learns alone first.
        """

        kind: Literal["iql"] = "iql"
        expectile: float = Field(0.8, gt=0, lt=1)
        beta: float = Field(10.0, ge=0)
        clip: float = Field(100.0, gt=0)
        value_width: int = Field(128, ge=1)
        successes_only: bool = False
        actor_after: int = Field(500, ge=0)

    def __init__(self, config: Config, head: Head, critic: ChunkCritic, chunk: int, output: Output) -> None:
        super().__init__(head, critic, chunk)
        self.config, self.value = config, StateValue(config.value_width, output)

    def critic_loss(self, batch: Batch) -> Loss:
        if self.config.beta == 0:
            return Loss(0.0 * next(self.value.parameters()).sum())  # nobody will ask it
        value, error = self.critic.regress(batch.context, batch.chunk, batch.target[:, None])
        td = masked_mean(error, batch.valid)
        state = self.value(batch.context)
        behind = expectile_loss(self.done(batch) - state, self.config.expectile)
        return Loss(td + behind, {"td": td.detach(), "expectile": behind.detach(), "v": state.mean().detach(),
                                  "q": masked_mean(value.detach(), batch.valid)})

    def actor_loss(self, batch: Batch) -> Loss | None:
        if batch.step < self.config.actor_after:
            return None
        weight = self.weights(batch)
        if self.config.successes_only:
            weight = weight * batch.success
        if not bool((weight > 0).any()):
            return None
        drawn = torch.multinomial(weight, len(weight), replacement=True)
        seen = Context(batch.seen.hidden[drawn], batch.seen.mask[drawn], batch.seen.readout[drawn])
        copied = self.head.loss(seen, batch.actions[drawn], batch.inside[drawn]).total
        share = weight.sum().square() / weight.square().sum() / len(weight)
        return Loss(copied, {"bc": copied.detach(), "effective_share": share})

    @torch.no_grad()
    def weights(self, batch: Batch) -> Float[Tensor, " b"]:
        """exp(β · advantage) of what was done, clipped."""
        if self.config.beta == 0:
            return torch.ones_like(batch.mc)
        advantage = self.done(batch) - self.value(batch.context)
        return (self.config.beta * advantage).exp().clamp(max=self.config.clip)

    @torch.no_grad()
    def done(self, batch: Batch) -> Float[Tensor, " b"]:
        """The target critic's value of what was done, of the longest prefix that is learnt."""
        value = self.target(batch.context, batch.chunk).amin(0)[:, 0]
        last = batch.valid.sum(1).clamp(min=1) - 1
        return value.gather(1, last[:, None]).squeeze(1)

    def state_values(self, context: Context, seen: Context, index: Tensor) -> Tensor:
        return self.value(context)


def expectile_loss(ahead: Float[Tensor, " b"], expectile: float) -> Tensor:
    """|τ − 1(u < 0)| u², the asymmetric square whose minimum is the expectile τ."""
    return (torch.where(ahead > 0, expectile, 1 - expectile) * ahead.square()).mean()



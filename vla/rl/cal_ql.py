"""Cal-QL proper (Nakamoto et al., arXiv 2303.05479): conservative values, held up by Monte-Carlo returns, for any head.

- critic: TD with the best of n actions of the policy in the next state (max-target backup), plus α times CQL(H)'s log-sum-exp over random
  actions and actions of the policy in this and in the next state. The policy's are held up at the Monte-Carlo return, random ones not.
- actor: a head that is a differentiable function climbs the critic as in CO-RFT; one that draws stays as it is and acts by best of N.

A deterministic head explores with Gaussian noise around its chunk. Densities (the importance weights of CQL) make sense for single
actions; in the many dimensions of a chunk they drown the values and are off unless asked for.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from backbones.context import Context
from heads.best_of import by_critic
from heads.chooser import Chooser
from heads.critic import ChunkCritic
from heads.head import Head, Loss, Output
from robot_io.registry import ComponentConfig
from vla.rl.algorithm import Algorithm, Batch, follower, follows_gradients, masked_mean, move
from vla.rl.co_rft import climb
from vla.rl.conservative import held_up, soft_push
from vla.rl.q_chunking import best_of, candidates


class CalQL(Algorithm):
    """See the module's text."""

    tunes_backbone = False

    class Config(ComponentConfig):
        """Its numbers.

        Attributes:
            conservative: α of the conservative term.
            floor: hold the policy's values up at the Monte-Carlo return; without it, this is CQL.
            draws: random actions and actions of the policy, in the conservative term and the backup, of each.
            temperature: of the log-sum-exp.
            importance: weigh draws by their density, as CQL does for single actions.
            spread: standard deviation of the actions of a deterministic head, normalised units.
            bc_weight: of the imitation loss in a climbing actor's.
            acting_draws: N of a head that draws, while acting.
            actor_after: steps that the critic learns alone first.
        """

        kind: Literal["cal_ql"] = "cal_ql"
        conservative: float = Field(1.0, ge=0)
        floor: bool = True
        draws: int = Field(4, ge=1)
        temperature: float = Field(1.0, gt=0)
        importance: bool = False
        spread: float = Field(0.2, gt=0)
        bc_weight: float = Field(1.0, ge=0)
        acting_draws: int = Field(32, ge=1)
        actor_after: int = Field(500, ge=0)

    def __init__(self, config: Config, head: Head, critic: ChunkCritic, chunk: int, output: Output) -> None:
        super().__init__(head, critic, chunk)
        self.config, self.slow_head, self.climbs = config, follower(head), False
        self.register_buffer("candidates", None, persistent=False)

    def prepare(self, contexts: Context) -> None:
        self.climbs = follows_gradients(self.head, contexts)
        if not self.climbs:
            self.candidates = candidates(self.slow_head, contexts, self.config.draws)

    def critic_loss(self, batch: Batch) -> Loss:
        value, error = self.critic.regress(batch.context, batch.chunk, batch.target[:, None])
        td = masked_mean(error, batch.valid)
        steps, dim = batch.chunk.shape[2:]
        random = torch.rand(len(batch.mc), self.config.draws, steps, dim) * 2 - 1
        with torch.no_grad():
            own = self.proposals(self.head, batch.context, batch.index)
        tried = self.critic(batch.context, torch.cat([random, own], 1))
        unbounded, ours = tried.split([self.config.draws, own.shape[1]], 2)
        if self.config.floor:
            ours = held_up(ours, batch.mc)
        density = self._log_density(random, own, batch) if self.config.importance else None
        pushed = soft_push(torch.cat([unbounded, ours], 2), value, batch.valid, temperature=self.config.temperature, log_density=density)
        return Loss(td + self.config.conservative * pushed, {
            "td": td.detach(), "pushed": pushed.detach(), "q": masked_mean(value.detach(), batch.valid)})

    def actor_loss(self, batch: Batch) -> Loss | None:
        if not self.climbs or batch.step < self.config.actor_after:
            return None
        return climb(self.head, self.critic, batch, self.config.bc_weight)

    def proposals(self, head: Head, context: Context, index: Int[Tensor, " b"]) -> Float[Tensor, "b n t a"]:
        """Chunks that the policy might do."""
        if self.candidates is not None:
            return self.candidates[index][:, :, : self.chunk]
        chunk = head.sample(context)[:, :, : self.chunk].expand(-1, self.config.draws, -1, -1)
        return (chunk + self.config.spread * torch.randn_like(chunk)).clamp(-1, 1)

    def _log_density(self, random: Tensor, own: Tensor, batch: Batch) -> Float[Tensor, "b n t"]:
        """Of every prefix: uniform draws, and Gaussian ones around a deterministic head's chunk."""
        steps = torch.arange(1, self.chunk + 1)
        uniform = (-math.log(2) * random.shape[-1] * steps).expand(*random.shape[:2], -1)
        with torch.no_grad():
            centre = self.head.sample(batch.context)[:, :, : self.chunk]
        each = -0.5 * ((own - centre) / self.config.spread).square() - math.log(self.config.spread * math.sqrt(2 * math.pi))
        return torch.cat([uniform, each.sum(-1).cumsum(-1)], 1)

    def state_values(self, context: Context, seen: Context, index: Tensor) -> Tensor:
        return self.target(context, self.proposals(self.slow_head, context, index)).amin(0)[..., -1].amax(1)

    def act(self, context: Context, seen: Context) -> Float[Tensor, "b 1 h a"]:
        if self.climbs:
            return self.head.sample(seen)
        return Chooser(self.head, by_critic(self.critic, self.chunk), self.config.acting_draws).sample(seen)

    def follow(self, tau: float) -> None:
        super().follow(tau)
        move(self.slow_head, self.head, tau)

    def acting(self, config: ComponentConfig, output: Output) -> tuple[ComponentConfig, Head]:
        return (config, self.head) if self.climbs else best_of(config, self.head, self.critic, self.config.acting_draws, self.chunk, output)

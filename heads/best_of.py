"""Best of N: any head draws, a critic chooses (Q-chunking, arXiv 2507.07969, sec. 4.1; implicit maximisation, as in EMaQ and IDQL).

It is a head like any other, so a policy with a critic inside is saved, served and evaluated like any other. The policy that results
maximises Q among what the inner head would do, and never does anything else.

Shapes: B samples, n draws asked for, N draws to choose from, T = horizon, A action dimensions. Out: `[B,n,T,A]`, normalised.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import BeforeValidator, Field, SerializeAsAny
from torch import Tensor

from backbones.context import Context
from heads import HEADS
from heads.critic import ChunkCritic
from heads.head import Guide, Head, Loss, Output, Prefix
from robot_io.registry import ComponentConfig


class BestOf(Head):
    """The best of `draws` chunks of an inner head, by its critic. `loss` is the inner head's."""

    class Config(ComponentConfig):
        """What draws and what chooses.

        Attributes:
            head: the inner head; one that draws.
            critic: what values the draws.
            draws: N.
            read: length of the prefix that decides; null for the whole chunk.
        """

        kind: Literal["best_of"] = "best_of"
        head: Annotated[SerializeAsAny[ComponentConfig], BeforeValidator(HEADS.configure)]
        critic: ChunkCritic.Config = ChunkCritic.Config()
        draws: int = Field(default=32, ge=1)
        read: int | None = Field(default=None, ge=1)

    def __init__(self, config: Config, output: Output) -> None:
        super().__init__()
        self.config = config
        self.head: Head = HEADS.load(config.head.kind)(config.head, output)
        self.critic = ChunkCritic(config.critic, output)
        self.supports = self.head.supports & {"guide", "prefix"}

    def loss(self, context: Context, actions: Float[Tensor, "b t a"], valid: Bool[Tensor, "b t"]) -> Loss:
        return self.head.loss(context, actions, valid)

    def sample(self, context: Context, *, n: int = 1, noise: Tensor | None = None, guide: Guide | None = None,
               condition: Tensor | None = None, prefix: Prefix | None = None) -> Float[Tensor, "b n t a"]:
        self.refuse_unsupported(noise=noise, guide=guide, condition=condition, prefix=prefix)
        asked: dict[str, Any] = {name: value for name, value in (("guide", guide), ("prefix", prefix)) if value is not None}
        drawn = self.head.sample(context, n=n * self.config.draws, **asked)
        best = choose(self.critic, context.repeat(n), drawn.unflatten(1, (n, -1)).flatten(0, 1), self.config.read)
        return best.unflatten(0, (len(drawn), n))


def choose(critic: ChunkCritic, context: Context, drawn: Float[Tensor, "b n t a"], read: int | None = None) -> Float[Tensor, "b t a"]:
    """The draw with the highest value, by the most sceptical of the critic's members."""
    values = critic(context, drawn[:, :, :read]).amin(0)[..., -1]
    return drawn[torch.arange(len(drawn), device=drawn.device), values.argmax(1)]

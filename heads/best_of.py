"""Best of N by a critic that is trained with it and saved in it (Q-chunking, arXiv 2507.07969, sec. 4.1; as in EMaQ and IDQL).

`heads.chooser` with a scorer of its own. It is a head like any other, so the policy is saved, served and evaluated like any other: it
maximises Q among what the inner head would do, and never does anything else. `vla rl q_chunking` makes one.

Shapes: B samples, n chunks of each, T = horizon, A action dimensions. Out: `[B,n,T,A]`, normalised.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import BeforeValidator, Field, SerializeAsAny
from torch import Tensor

from backbones.context import Context
from heads import HEADS
from heads.chooser import Chooser, Scorer
from heads.critic import ChunkCritic
from heads.head import Head, Output
from robot_io.registry import ComponentConfig


class BestOf(Chooser):
    """The best of `draws` chunks of an inner head, by its critic. `loss` is the inner head's."""

    sampling = frozenset({"draws"})

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

    def __init__(self, config: Config, output: Output, head: Head | None = None, critic: ChunkCritic | None = None) -> None:
        """`head` and `critic` are those to put together, where they are there already."""
        critic = ChunkCritic(config.critic, output) if critic is None else critic
        head = HEADS.load(config.head.kind)(config.head, output) if head is None else head
        super().__init__(head, by_critic(critic, config.read), config.draws)
        self.config, self.output, self.critic = config, output, critic

    def save_assets(self, folder: Path) -> None:
        self.head.save_assets(folder)


def by_critic(critic: ChunkCritic, read: int | None = None) -> Scorer:
    """The value of each chunk's first `read` actions, by the most sceptical of the critic's members."""

    def score(context: Context, actions: Float[Tensor, "b n t a"]) -> Float[Tensor, "b n"]:
        return critic(context, actions[:, :, :read]).amin(0)[..., -1]

    return score

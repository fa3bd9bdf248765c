"""The best of N drawn chunks and their edits, by a critic (EXPO, Dong et al., arXiv 2507.07986).

A head that draws (diffusion, flow, tokens) proposes, and stays as imitation left it; a small network moves each proposal a little, towards
what the critic values; the best of proposals and edits is done. So a critic's gradient improves a policy through which no gradient should
go. The paper's editor is a Gaussian, to explore online; offline nothing is explored, and ours is its mean.

Shapes: B samples, n chunks of each, N proposals, T = horizon, A action dimensions, K readouts of width D. Out: `[B,n,T,A]`, normalised.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from backbones.context import Context
from heads.best_of import BestOf
from heads.critic import ChunkCritic
from heads.head import Head, Output


class Editor(nn.Module):
    """`(readout [B,K,D], chunks [B,n,T,A])` to moves of at most `size`, `[B,n,T,A]`. A new one moves nothing."""

    def __init__(self, width: int, size: float, output: Output) -> None:
        super().__init__()
        self.size, numbers = size, output.horizon * output.action_dim
        self.state = nn.Sequential(nn.LayerNorm(output.context_dim), nn.Flatten(1), nn.Linear(output.queries * output.context_dim, width))
        self.chunk = nn.Linear(numbers, width)
        self.move = nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, numbers))
        nn.init.zeros_(self.move[-1].weight)
        nn.init.zeros_(self.move[-1].bias)

    def forward(self, context: Context, chunks: Float[Tensor, "b n t a"]) -> Float[Tensor, "b n t a"]:
        hidden = self.state(context.readout)[:, None] + self.chunk(chunks.flatten(2))
        return self.size * self.move(hidden).tanh().unflatten(2, chunks.shape[2:])

    def edited(self, context: Context, chunks: Float[Tensor, "b n t a"]) -> Float[Tensor, "b n t a"]:
        return (chunks + self(context, chunks)).clamp(-1, 1)


class Edited(BestOf):
    """`draws` chunks of an inner head, as they are and edited; the best of these by its critic. `loss` is the inner head's."""

    class Config(BestOf.Config):
        """What draws and what chooses, and the editor: `width` of its network, `size` of the largest move of a number, normalised."""

        kind: Literal["edited"] = "edited"
        width: int = Field(default=128, ge=1)
        size: float = Field(default=0.3, gt=0)

    def __init__(self, config: Config, output: Output, head: Head | None = None, critic: ChunkCritic | None = None,
                 editor: Editor | None = None) -> None:
        super().__init__(config, output, head, critic)
        self.editor = Editor(config.width, config.size, output) if editor is None else editor

    def propose(self, context: Context, n: int, given: dict[str, Any]) -> Float[Tensor, "b n m t a"]:
        drawn = super().propose(context, n, given)
        edited = self.editor.edited(context, drawn.flatten(1, 2)).unflatten(1, drawn.shape[1:3])
        return torch.cat([drawn, edited], 2)

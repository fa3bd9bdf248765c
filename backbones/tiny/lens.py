"""A second look at the pictures, for `speech`: what shape every cell shows.

The trunk's cells tell colours apart (a linear probe names 99 % of things) but hardly shapes (42 % in the front view): it was taught to
find what is named, for which a colour nearly always does. Its weights stay as they are, so the speaker looks again, from the eye's
half-way maps:

    maps   [B·V, C, 24, 24]   of the frozen eye
    cells  [B, V·N, W]        in the order of the trunk's own cells
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from backbones.tiny.vision import Residual, normalise
from robot_io.tabletop.scene import COLORS, SHAPES

BACKGROUND = 0.05
"""Weight of a cell that shows nothing, against one that shows a thing: 97 of 100 show nothing."""


class Lens(nn.Module):
    """Half-way maps → cells that know shapes."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False),
            normalise(width),
            nn.ReLU(inplace=True),
            Residual(width),
            Residual(width),
        )
        self.kind = nn.Linear(width, len(COLORS) + 1 + len(SHAPES) + 1)

    def forward(self, maps: Float[Tensor, "bv c h w"], views: int) -> Float[Tensor, "b n w"]:
        return rearrange(self.body(maps), "(b v) w y x -> b (v y x) w", v=views)

    def losses(self, cells: Float[Tensor, "b n w"], kinds: Int64[Tensor, "b n 2"]) -> dict[str, Tensor]:
        """Cross-entropy of the colour and the shape in every cell, `kinds` as `pretrain.shown_by_cells` makes them."""
        weight = (kinds[..., 0] < len(COLORS)).float() * (1 - BACKGROUND) + BACKGROUND
        said = self.kind(cells).split((len(COLORS) + 1, len(SHAPES) + 1), -1)
        found = [F.cross_entropy(logits.flatten(0, 1), kinds[..., i].flatten(), reduction="none") for i, logits in enumerate(said)]
        return {name: (loss * weight.flatten()).sum() / weight.sum() for name, loss in zip(("colour", "shape"), found, strict=True)}

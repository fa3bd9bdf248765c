"""The eye of `tiny`: a residual convolutional trunk from one picture to a grid of features.

    images  [B, 3, H, W] in [0, 1], resized to 96×96
    grid    [B, N, D], N = 12 × 12 cells of 8×8 pixels, row by row, position embedding added

Convolutions rather than patches: at 10⁵ pictures and two CPU cores they learn to see, patches do not. Group norm, so that
a picture's features never depend on its batch and may be cached.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SIZE = 96
CELLS = 12


def normalise(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(8, channels)


class Residual(nn.Module):
    """Two 3×3 convolutions and a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            normalise(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            normalise(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x), inplace=True)


def waves(dim: int) -> Float[Tensor, "n d"]:
    """Where each cell is, as sines and cosines of its row and column with wave lengths from twice the picture down to two cells.

    Drawn at random instead, positions of objects are learnt several times more slowly.
    """
    length = 2 * CELLS * (1 / CELLS) ** torch.linspace(0, 1, dim // 4)
    angle = 2 * torch.pi * torch.arange(CELLS)[:, None] / length
    wave = torch.cat([angle.sin(), angle.cos()], 1)  # [CELLS, D / 2]
    rows, columns = wave[:, None].expand(-1, CELLS, -1), wave[None].expand(CELLS, -1, -1)
    return torch.cat([rows, columns], 2).reshape(CELLS * CELLS, -1)


def scaled(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 96 96"]:
    """To the eye's size, and to [-1, 1]."""
    if images.shape[-2:] != (SIZE, SIZE):
        images = F.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
    return images * 2 - 1


class Eye(nn.Module):
    """One picture → a grid of `dim`-wide features."""

    def __init__(self, dim: int, width: int = 24, blocks: int = 3) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, width, 5, stride=2, padding=2, bias=False),
            normalise(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
            normalise(2 * width),
            nn.ReLU(inplace=True),
            Residual(2 * width),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1, bias=False),
            normalise(4 * width),
            nn.ReLU(inplace=True),
            *(Residual(4 * width) for _ in range(blocks)),
            nn.Conv2d(4 * width, dim, 1),
        )
        self.norm = nn.LayerNorm(dim)
        self.position = nn.Parameter(waves(dim))

    def half_way(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c 24 24"]:
        """The maps before they shrink for the last time, in which a small thing still has a shape."""
        return self.trunk[:7](scaled(images))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        grid = self.trunk(scaled(images))
        return self.norm(grid.flatten(2).transpose(1, 2)) + self.position

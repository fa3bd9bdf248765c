"""The dense head of VGGT (Ranftl et al., arXiv 2103.13413): four of the aggregator's layers → depth and how sure it is, per pixel.

Each layer becomes a map of its own scale (a quarter, half, once and twice the patch); from the coarsest on, a map is refined, enlarged and
added to the next. Sines and cosines of where a cell is are added at both ends. Names of parameters are the published checkpoint's.

Shapes: B pictures of H×W pixels, h×w patches; C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

LAST = 32
"""Channels before the output."""
WAVES = 100.0
SHARE = 0.1
"""Of the positions in what they are added to."""


class Residual(nn.Module):
    """Two convolutions of what is positive, added to it. The published code works in place, so what is added to is rectified too."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return x + self.conv2(F.relu(self.conv1(x)))


class Fusion(nn.Module):
    """A coarse map, and the finer one beside it if there is one, → a map of another size."""

    def __init__(self, channels: int, joins: bool) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(channels, channels, 1)
        if joins:
            self.resConfUnit1 = Residual(channels)
        self.resConfUnit2 = Residual(channels)

    def forward(self, coarse: Tensor, fine: Tensor | None, size: Sequence[int]) -> Tensor:
        x = coarse if fine is None else coarse + self.resConfUnit1(fine)
        return self.out_conv(enlarged(self.resConfUnit2(x), size))


class DepthHead(nn.Module):
    """Layers `[B, N, 2D]`, patches only → depth `[B, H, W]` and confidence `[B, H, W]` (from 1 up).

    Args:
        dim: of the layers.
        channels: of the four maps.
        features: of the maps while they are put together.
    """

    def __init__(self, dim: int, patch: int, channels: Sequence[int], features: int, outputs: int = 2) -> None:
        super().__init__()
        self.patch = patch
        self.norm = nn.LayerNorm(dim)
        self.projects = nn.ModuleList(nn.Conv2d(dim, each, 1) for each in channels)
        first, second, _, last = channels
        self.resize_layers = nn.ModuleList([nn.ConvTranspose2d(first, first, 4, 4), nn.ConvTranspose2d(second, second, 2, 2),
                                            nn.Identity(), nn.Conv2d(last, last, 3, 2, 1)])
        parts: dict[str, nn.Module] = {
            f"layer{i}_rn": nn.Conv2d(each, features, 3, padding=1, bias=False) for i, each in enumerate(channels, 1)}
        parts |= {f"refinenet{i}": Fusion(features, joins=i < 4) for i in (1, 2, 3, 4)}
        parts["output_conv1"] = nn.Conv2d(features, features // 2, 3, padding=1)
        parts["output_conv2"] = nn.Sequential(nn.Conv2d(features // 2, LAST, 3, padding=1), nn.ReLU(), nn.Conv2d(LAST, outputs, 1))
        self.scratch = nn.ModuleDict(parts)

    def forward(self, layers: Sequence[Float[Tensor, "b n d"]], height: int, width: int) -> tuple[Tensor, Tensor]:
        """Of pictures of height×width pixels."""
        rows, aspect, maps = height // self.patch, width / height, []
        for layer, project, resize in zip(layers, self.projects, self.resize_layers, strict=True):
            cells = rearrange(self.norm(layer), "b (h w) d -> b d h w", h=rows)
            maps.append(resize(placed(project(cells), aspect)))
        maps = [self.scratch[f"layer{i}_rn"](each) for i, each in enumerate(maps, 1)]
        x = self.scratch["refinenet4"](maps[3], None, maps[2].shape[-2:])
        for i in (2, 1, 0):
            size = maps[i - 1].shape[-2:] if i else [2 * side for side in maps[0].shape[-2:]]
            x = self.scratch[f"refinenet{i + 1}"](x, maps[i], size)
        x = enlarged(self.scratch["output_conv1"](x), (height, width))
        depth, confidence = self.scratch["output_conv2"](placed(x, aspect)).unbind(1)
        return depth.exp(), 1 + confidence.exp()


def enlarged(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)


def placed(x: Float[Tensor, "b c h w"], aspect: float) -> Float[Tensor, "b c h w"]:
    """With waves of each cell's place added; places are measured in half diagonals of the picture, from its middle."""
    height, width = x.shape[-2:]
    diagonal = (1 + aspect**2) ** 0.5
    across, down = ((torch.arange(count, device=x.device, dtype=torch.float64) * 2 - count + 1) / count * span / diagonal
                    for count, span in ((width, aspect), (height, 1.0)))
    channels = x.shape[1] // 2
    columns, rows = _waves(across, channels)[:, None].expand(-1, height, -1), _waves(down, channels)[..., None].expand(-1, -1, width)
    return x + SHARE * torch.cat([columns, rows]).to(x)


def _waves(position: Float[Tensor, " n"], channels: int) -> Float[Tensor, "c n"]:
    half = channels // 2
    angle = WAVES ** (-torch.arange(half, device=position.device, dtype=torch.float64) / half)[:, None] * position
    return torch.cat([angle.sin(), angle.cos()])

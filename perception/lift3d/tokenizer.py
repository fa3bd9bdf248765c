"""Points → tokens: the three-stage tokenizer of Lift3D (arXiv 2411.18623, sec. 3.3), after Point-PN (arXiv 2303.08134).

    points [B, N, C] ──embed──▶ [B, N, D/8] ──stage──▶ [B, 4T, D/4] ──stage──▶ [B, 2T, D/2] ──stage──▶ tokens [B, T, D]

A stage keeps the first half of the points (farthest-point order makes that the farthest-point sample), and gives each the largest of what
its nearest neighbours say: their features beside its own, plus sines and cosines of where they lie, through residual bottlenecks. Published
sizes: N = 1024, T = 128, 64 neighbours, D = 768. Normalisation is by layer, not by batch as in the release: policies are evaluated with averaged
weights, which running statistics of the batch do not belong to.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from perception.point_sampling import nearest_neighbours, take

BLOCKS = (2, 1, 1)
LAST_BOTTLENECK = 32
ALPHA, BETA = 1000.0, 100.0
"""Longest wave over shortest, and the shortest one's frequency, of the geometry embedding."""


def waves(offsets: Float[Tensor, "b t k 3"], dim: int) -> Float[Tensor, "b t k d"]:
    """Sines and cosines of each axis at `dim / 6` frequencies (Point-PN, sec. 3.2)."""
    each = -(-dim // 6)
    scale = BETA / ALPHA ** (torch.arange(each, device=offsets.device, dtype=torch.float32) / each)
    angle = (offsets[..., None] * scale).flatten(-2)
    return torch.cat([angle.sin(), angle.cos()], -1)[..., :dim]


class Bottleneck(nn.Module):
    """Down, up and a skip, over the last axis."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(dim, inner), nn.Linear(inner, dim)
        self.norm_inner, self.norm = nn.LayerNorm(inner), nn.LayerNorm(dim)

    def forward(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        return F.relu(x + self.norm(self.up(F.relu(self.norm_inner(self.down(x))))))


class Stage(nn.Module):
    """N points of width D/2 → `count` points of width D."""

    def __init__(self, dim: int, inner: int, blocks: int, neighbours: int) -> None:
        super().__init__()
        self.dim, self.neighbours = dim, neighbours
        self.blocks = nn.Sequential(*(Bottleneck(dim, inner) for _ in range(blocks)))

    def forward(self, points: Float[Tensor, "b n 3"], features: Float[Tensor, "b n c"],
                count: int) -> tuple[Float[Tensor, "b t 3"], Float[Tensor, "b t d"]]:
        centres = points[:, :count]
        with torch.no_grad():
            everywhere = torch.ones_like(points[..., 0], dtype=torch.bool)
            around = nearest_neighbours(centres, points, everywhere, self.neighbours)
            offsets = take(points, around) - centres[:, :, None]
            spread = offsets.std((1, 2, 3), keepdim=True)
            where = waves(offsets / (spread + 1e-5), self.dim)
        both = torch.cat([take(features, around), features[:, :count, None].expand(-1, -1, around.shape[-1], -1)], -1)
        return centres, self.blocks(both + where).amax(2)


class Tokenizer(nn.Module):
    """See the module's text."""

    def __init__(self, channels: int, dim: int, tokens: int, neighbours: int) -> None:
        super().__init__()
        if dim % 8:
            raise ValueError(f"the width of the transformer, {dim}, is not a multiple of 8")
        self.tokens = tokens
        self.embed = nn.Sequential(nn.Linear(channels, dim // 8, bias=False), nn.LayerNorm(dim // 8), nn.ReLU())
        widths = (dim // 4, dim // 2, dim)
        inners = (dim // 8, dim // 4, min(LAST_BOTTLENECK, dim // 2))
        self.stages = nn.ModuleList(Stage(width, inner, blocks, neighbours)
                                    for width, inner, blocks in zip(widths, inners, BLOCKS, strict=True))

    def forward(self, values: Float[Tensor, "b n c"],
                points: Float[Tensor, "b n 3"]) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b t 3"]]:
        """Tokens and their centres. `points`, in farthest-point order, are at least 4·T."""
        features = self.embed(values)
        for stage, count in zip(self.stages, (4 * self.tokens, 2 * self.tokens, self.tokens), strict=True):
            points, features = stage(points, features, count)
        return features, points

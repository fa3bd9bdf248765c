"""Metres for networks that only know near from far: the table is the yardstick.

A relative network gives d = a/z + b with unknown a and b. Where a camera's pose and intrinsics are known, so is the depth at which each of its
rays meets the table top, z = 0 in the base frame. Whatever share `share` of the picture fits best is taken for the table: a and b are
fitted to it by least squares, again and again, each time to the pixels that fitted best before.

Shapes: B observations, V views, H×W pixels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from perception.lifting import pixel_grid, transform, unproject

FARTHEST = 3.0
"""Rays that meet the table's plane beyond this, or never, say nothing; metres."""
ROUNDS = 10
LEAST = 1e-3


def table_depth(intrinsics: Float[Tensor, "b v 3 3"], poses: Float[Tensor, "b v 4 4"], height: int, width: int) -> Float[Tensor, "b v h w"]:
    """Depth of the plane z = 0 at every pixel, 0 where it is not seen or too far."""
    pixels = pixel_grid(height, width, intrinsics.device).expand(*intrinsics.shape[:2], -1, 2)
    ahead = transform(unproject(pixels, torch.ones_like(pixels[..., 0]), intrinsics), poses)[..., 2]
    camera = poses[..., 2, 3, None]
    depth = camera / (camera - ahead).clamp(min=1e-6)
    seen = (ahead < camera) & (depth > LEAST) & (depth < FARTHEST)
    return torch.where(seen, depth, 0).unflatten(-1, (height, width))


def metres(relative: Float[Tensor, "b v h w"], table: Float[Tensor, "b v h w"], share: float = 0.5) -> Float[Tensor, "b v h w"]:
    """Depth from relative inverse depth, 0 where it would be behind the camera; 0 everywhere in a view that sees no table."""
    said, seen = relative.flatten(2).double(), table.flatten(2) > 0
    inverse = torch.where(seen, 1 / table.flatten(2).double().clamp(min=LEAST), 0)
    kept = seen
    for _ in range(ROUNDS):
        slope, shift = _line(said, inverse, kept)
        wrong = (slope * said + shift - inverse).abs().masked_fill(~seen, torch.inf)
        rank = wrong.argsort(-1).argsort(-1)
        kept = seen & (rank < (share * seen.sum(-1, keepdim=True)).ceil())
    found = slope * said + shift
    usable = (found > 1 / (10 * FARTHEST)) & seen.any(-1, keepdim=True)
    return torch.where(usable, 1 / found.clamp(min=1e-6), 0).to(relative.dtype).view_as(relative)


def _line(x: Tensor, y: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares of y = slope · x + shift over the kept pixels, `[B, V, 1]` each."""
    count = kept.sum(-1, keepdim=True).clamp(min=1)
    middle_x, middle_y = ((value * kept).sum(-1, keepdim=True) / count for value in (x, y))
    away = (x - middle_x) * kept
    slope = (away * (y - middle_y)).sum(-1, keepdim=True) / away.square().sum(-1, keepdim=True).clamp(min=1e-12)
    return slope, middle_y - slope * middle_x

"""Which points of a cloud to keep, and which lie around each: farthest-point sampling and nearest neighbours, batched.

Farthest-point sampling (Eldar et al. 1997, as in PointNet++, arXiv 1706.02413, sec. 3.2) takes, again and again, the point that is
farthest from all taken before. Its order is nested: the first n of m > n samples are the n samples. So whoever keeps points in this
order gets every coarser sample by cutting the list.

Shapes: B clouds, M points with `valid` of them counted, N of them kept, K neighbours, C channels.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def farthest_points(points: Float[Tensor, "b m 3"], valid: Bool[Tensor, "b m"],
                    count: int) -> tuple[Int[Tensor, "b n"], Bool[Tensor, "b n"]]:
    """Indices of `count` points in the order taken, from the first valid one on; False where a cloud had no further point left."""
    axes = points.mT.contiguous()
    nearest = torch.where(valid, torch.inf, -1.0)  # squared distance to the points taken; taken points come to 0
    found = torch.empty(len(points), count, dtype=torch.long, device=points.device)
    real = torch.empty(len(points), count, dtype=torch.bool, device=points.device)
    for i in range(count):
        left, found[:, i] = nearest.max(1)
        real[:, i] = left > 0
        taken = axes.gather(2, found[:, i, None, None].expand(-1, 3, 1))
        nearest = torch.minimum(nearest, (axes - taken).square_().sum(1))
    return found, real


def nearest_neighbours(centres: Float[Tensor, "b n 3"], points: Float[Tensor, "b m 3"], valid: Bool[Tensor, "b m"],
                       count: int) -> Int[Tensor, "b n k"]:
    """Indices of the `count` nearest valid points to each centre, nearest first; invalid ones only where there are too few."""
    distance = torch.cdist(centres, points, compute_mode="donot_use_mm_for_euclid_dist").masked_fill(~valid[:, None], torch.inf)
    return distance.topk(min(count, points.shape[1]), largest=False).indices


def take(values: Tensor, index: Int[Tensor, "b ..."]) -> Tensor:
    """`values [B, M, C]` at `index [B, …]`: `[B, …, C]`."""
    flat = index.flatten(1)
    return values.gather(1, flat[..., None].expand(-1, -1, values.shape[-1])).unflatten(1, index.shape[1:])

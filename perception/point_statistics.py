"""Robust statistics of sets of points with a mask: where a thing is and how large, from the pixels that a mask put on it.

Masks bleed over edges and have stray pixels, so nothing here is moved far by a few wrong points. All of it is
batched: `...` is any number of leading axes, N points with `valid` of them counted, P pixels. A set without valid
points gives zeros.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def spread(masks: Bool[Tensor, "... p"], count: int) -> tuple[Int[Tensor, "... n"], Bool[Tensor, "... n"]]:
    """`count` pixels evenly over each mask, in its own order; all of them, then invalid ones, where the mask has fewer."""
    rank = masks.cumsum(-1, dtype=torch.int32)
    total = rank[..., -1:]
    order = torch.arange(count, device=masks.device, dtype=torch.int32)
    wanted = torch.where(total > count, (order * total) // count, order) + 1
    where = torch.searchsorted(rank, wanted.contiguous()).clamp(max=masks.shape[-1] - 1)
    return where, order < total


def near_median(points: Float[Tensor, "... n 3"], valid: Bool[Tensor, "... n"], least: float,
                spreads: float = 3.0) -> Bool[Tensor, "... n"]:
    """The valid points within `least`, or `spreads` median distances, of the median along each axis."""
    distance = (points - quantile(points, valid, 0.5)[..., None, :]).norm(dim=-1, keepdim=True)
    reach = (spreads * quantile(distance, valid, 0.5)).clamp(min=least)
    return valid & (distance[..., 0] <= reach)


def quantile(values: Float[Tensor, "... n d"], valid: Bool[Tensor, "... n"], share: float) -> Float[Tensor, "... d"]:
    """Along each axis on its own: the valid value nearest to the quantile."""
    return quantiles(values, valid, (share,))[0]


def quantiles(values: Float[Tensor, "... n d"], valid: Bool[Tensor, "... n"],
              shares: tuple[float, ...]) -> list[Float[Tensor, "... d"]]:
    """Several quantiles from one sorting."""
    ordered = torch.where(valid[..., None], values, torch.inf).sort(-2).values
    last = (valid.sum(-1) - 1).clamp(min=0)
    found = []
    for share in shares:
        index = (last * share).round().long()[..., None, None].expand(*values.shape[:-2], 1, values.shape[-1])
        value = ordered.gather(-2, index)[..., 0, :]
        found.append(torch.where(valid.any(-1, keepdim=True), value, 0))
    return found


def direction(points: Float[Tensor, "... n 3"], valid: Bool[Tensor, "... n"]) -> Float[Tensor, "... 2"]:
    """Which way a thing is long, seen from above: (cos 2θ, sin 2θ) of the longer axis' angle θ from x towards y, times how much
    longer it is, from 0 (round) to 1 (a line)."""
    weight = valid.to(points)[..., None]
    count = weight.sum(-2).clamp(min=1)
    flat = points[..., :2]
    x, y = ((flat - ((flat * weight).sum(-2) / count)[..., None, :]) * weight).unbind(-1)
    along, across, mixed = (x * x).sum(-1), (y * y).sum(-1), (x * y).sum(-1)
    return torch.stack([along - across, 2 * mixed], -1) / (along + across).clamp(min=1e-12)[..., None]


def cover(pixels: Float[Tensor, "... n 2"], valid: Bool[Tensor, "... n"], side: int) -> Float[Tensor, "... s"]:
    """A mask's own picture, `side`·`side` numbers row by row: the share of its pixels in each cell of its bounding box, times the
    number of cells; so a mask that fills its box is 1 everywhere."""
    low, high = quantiles(pixels, valid, (0.0, 1.0))
    inside = (pixels - low[..., None, :]) / (high - low + 1)[..., None, :]
    column, row = (inside * side).long().clamp(0, side - 1).unbind(-1)
    cells = torch.zeros(*valid.shape[:-1], side**2, device=pixels.device)
    cells.scatter_add_(-1, row * side + column, valid.float())
    return cells * side**2 / valid.sum(-1, keepdim=True).clamp(min=1)

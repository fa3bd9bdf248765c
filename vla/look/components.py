"""Feature maps as pictures: their first three principal components as red, green and blue, the same for all views of an observation."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def components(maps: Float[Tensor, "v d h w"]) -> Float[Tensor, "v 3 h w"]:
    """In [0, 1], from the 2nd to the 98th percentile of each component; maps of fewer channels leave colours out."""
    cells = maps.float().movedim(1, -1)
    flat = cells.flatten(0, -2)
    flat = flat - flat.mean(0)
    _, _, axes = torch.linalg.svd(flat, full_matrices=False)
    found = flat @ axes[:3].mT
    low, high = found.quantile(0.02, dim=0), found.quantile(0.98, dim=0)
    scaled = ((found - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)
    scaled = torch.cat([scaled, scaled.new_zeros(len(scaled), 3 - scaled.shape[1])], 1)
    return scaled.view(*cells.shape[:-1], 3).movedim(-1, 1)

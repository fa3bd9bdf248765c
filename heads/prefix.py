"""How firmly a chunk follows the one before: the soft mask of real-time chunking (Black et al., arXiv 2506.07339, sec. IV-B, eq. 5).

    frozen steps | overlap: less and less | beyond the chunk before: free
         1       |     c · (e^c - 1)/(e - 1)     |           0

with c falling linearly from nearly 1 to nearly 0 over the overlap.

Shapes: P actions of the chunk before, T = horizon, A action dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from heads.head import Prefix


def soft_mask(frozen: int, given: int, horizon: int) -> Float[Tensor, " t"]:
    """The weight of each step, where `given` steps are known and `frozen` of them must stay."""
    weights = torch.zeros(horizon)
    weights[:frozen] = 1.0
    for step in range(frozen, min(given, horizon)):
        c = (given - step) / (given - frozen + 1)
        weights[step] = c * math.expm1(c) / math.expm1(1.0)
    return weights


def soft_prefix(actions: Float[Tensor, "p a"], frozen: int, horizon: int) -> Prefix:
    """A prefix for one sample: cut to the horizon, or padded with its last action, which then weighs nothing."""
    given = len(actions)
    index = torch.arange(horizon, device=actions.device).clamp(max=given - 1)
    return Prefix(actions[index].unsqueeze(0), soft_mask(frozen, given, horizon).to(actions))


def side_by_side(prefixes: Sequence[Prefix]) -> Prefix:
    """The prefixes of single samples as one of them all."""
    return Prefix(torch.cat([prefix.actions for prefix in prefixes]), torch.stack([prefix.frozen for prefix in prefixes]))

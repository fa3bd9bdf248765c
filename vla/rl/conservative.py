"""What keeps a critic from believing in actions that nobody tried: CQL's push, and Cal-QL's floor under it.

CQL (Kumar et al., arXiv 2006.04779) pushes the values of the policy's actions down and those of the data up, as far as they go: values
end below what the behaviour itself earned. Cal-QL (Nakamoto et al., arXiv 2303.05479, eq. 5.1) stops pushing at the Monte-Carlo return.
CO-RFT (arXiv 2508.02219, eq. 8) does so for every prefix of a chunk.

Shapes: M critics, B samples, n actions of each, T prefixes.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vla.rl.algorithm import masked_mean


def held_up(tried: Float[Tensor, "m b n t"], floor: Float[Tensor, " b"]) -> Float[Tensor, "m b n t"]:
    """Values, none below the floor: where one is, no gradient pushes it further."""
    return torch.maximum(tried, floor[:, None, None])


def push(tried: Float[Tensor, "m b n t"], done: Float[Tensor, "m b 1 t"], valid: Bool[Tensor, "b t"], *,
         floor: Float[Tensor, " b"] | None) -> Tensor:
    """CO-RFT's term: the mean value of tried actions over that of the data's. `floor=None` is plain CQL(ρ)."""
    tried = tried if floor is None else held_up(tried, floor)
    return masked_mean(tried.mean(2, keepdim=True) - done, valid)


def soft_push(tried: Float[Tensor, "m b n t"], done: Float[Tensor, "m b 1 t"], valid: Bool[Tensor, "b t"], *,
              temperature: float, log_density: Float[Tensor, "b n t"] | None = None) -> Tensor:
    """CQL(H)'s term: the log-sum-exp over tried actions, importance-sampled where their density is given."""
    scaled = tried / temperature
    if log_density is not None:
        scaled = scaled - log_density
    return masked_mean(temperature * torch.logsumexp(scaled, 2, keepdim=True) - done, valid)

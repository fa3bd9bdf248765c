"""What all of VGGT's transformers are made of: pre-norm blocks with LayerScale, normalised queries and keys, and 2D rotary positions.

Names of parameters are the published checkpoint's. Shapes: B sequences of L tokens, width D, H heads of width E = D / H.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

FREQUENCY = 100.0
"""Base of the rotary frequencies."""


def rotary(x: Float[Tensor, "b h l e"], positions: Int[Tensor, "b l 2"]) -> Float[Tensor, "b h l e"]:
    """Turn the first half of every head by its token's row and the second by its column (RoPE, arXiv 2104.09864, in two dimensions).

    Within each half of width e, channels i and i + e/2 are a plane that turns by position · FREQUENCY^(-2i/e).
    """
    return torch.cat([_turned(half, positions[..., axis]) for axis, half in enumerate(x.chunk(2, -1))], -1)


def _turned(x: Float[Tensor, "b h l e"], position: Int[Tensor, "b l"]) -> Float[Tensor, "b h l e"]:
    width = x.shape[-1]
    speed = FREQUENCY ** (-torch.arange(0, width, 2, device=x.device, dtype=torch.float32) / width)
    angle = position[:, None, :, None] * speed
    cosine, sine = angle.cos().to(x), angle.sin().to(x)
    real, imaginary = x.chunk(2, -1)
    return torch.cat([real * cosine - imaginary * sine, imaginary * cosine + real * sine], -1)


def grid_positions(height: int, width: int, device: torch.device | str = "cpu") -> Int[Tensor, "n 2"]:
    """(row, column) of a grid's cells, row by row."""
    return torch.cartesian_prod(torch.arange(height, device=device), torch.arange(width, device=device))


class LayerScale(nn.Module):
    """Scales every channel by a learnt number (arXiv 2103.17239)."""

    def __init__(self, dim: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), initial))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, dim: int, hidden: int, out: int | None = None) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, out or dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Attention(nn.Module):
    """Self-attention; with `normalise`, a LayerNorm on each head's queries and keys (arXiv 2302.05442)."""

    def __init__(self, dim: int, heads: int, normalise: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.q_norm, self.k_norm = (nn.LayerNorm(dim // heads) if normalise else nn.Identity() for _ in range(2))

    def forward(self, x: Float[Tensor, "b l d"], positions: Int[Tensor, "b l 2"] | None = None) -> Float[Tensor, "b l d"]:
        q, k, v = rearrange(self.qkv(x), "b l (three h e) -> three b h l e", three=3, h=self.heads)
        q, k = self.q_norm(q), self.k_norm(k)
        if positions is not None:
            q, k = rotary(q, positions), rotary(k, positions)
        return self.proj(rearrange(F.scaled_dot_product_attention(q, k, v), "b h l e -> b l (h e)"))


class Block(nn.Module):
    """Pre-norm: attention, then the feed-forward, each scaled and added."""

    def __init__(self, dim: int, heads: int, *, scale: float, normalise: bool, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps), nn.LayerNorm(dim, eps)
        self.attn, self.mlp = Attention(dim, heads, normalise), Mlp(dim, 4 * dim)
        self.ls1, self.ls2 = LayerScale(dim, scale), LayerScale(dim, scale)

    def forward(self, x: Float[Tensor, "b l d"], positions: Int[Tensor, "b l 2"] | None = None) -> Float[Tensor, "b l d"]:
        x = x + self.ls1(self.attn(self.norm1(x), positions))
        return x + self.ls2(self.mlp(self.norm2(x)))

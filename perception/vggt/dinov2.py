"""DINOv2 with registers (Oquab et al., arXiv 2304.07193; Darcet et al., arXiv 2309.16588): a picture → a grid of tokens.

It is VGGT's patch embedding, and names of parameters are those of its checkpoint. A small one may look through convolutions of stride 2
(`convolutions`; Xiao et al., arXiv 2106.14881) instead of cutting patches: with 10⁴ pictures and two CPU cores those learn to see, patches do not.

Shapes: B pictures of H×W pixels, both multiples of the patch's side; h×w patches; width D.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from perception.vggt.layers import Block

EPS = 1e-6


class PatchEmbed(nn.Module):
    """Pixels → patches, each by the same linear map; or by convolutions of stride 2, as many as `channels`."""

    def __init__(self, dim: int, patch: int, channels: Sequence[int] = ()) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        before = 3
        for after in channels:
            parts += [nn.Conv2d(before, after, 5 if before == 3 else 3, 2, 2 if before == 3 else 1, bias=False), nn.GroupNorm(8, after),
                      nn.ReLU()]
            before = after
        self.stem = nn.Sequential(*parts) if parts else None
        rest = patch // 2 ** len(channels)
        self.proj = nn.Conv2d(before, dim, rest, rest)

    def forward(self, images: Float[Tensor, "b 3 hp wp"]) -> Float[Tensor, "b d h w"]:
        return self.proj(images if self.stem is None else self.stem(images))


class DinoV2(nn.Module):
    """Pictures, normalised by ImageNet's mean and deviation → a grid of normalised patch tokens.

    Args:
        image_size: side of the picture that `pos_embed` has a position for every patch of; other sizes interpolate it.
    """

    def __init__(self, dim: int, depth: int, heads: int, patch: int, image_size: int, registers: int = 4,
                 channels: Sequence[int] = ()) -> None:
        super().__init__()
        self.patch, self.grid = patch, image_size // patch
        self.patch_embed = PatchEmbed(dim, patch, channels)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + self.grid**2, dim) * 0.02)
        self.register_tokens = nn.Parameter(torch.randn(1, registers, dim) * 1e-6)
        self.mask_token = nn.Parameter(torch.zeros(1, dim))  # of its own pretraining; unused
        self.blocks = nn.ModuleList(Block(dim, heads, scale=1.0, normalise=False, eps=EPS) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, EPS)

    def forward(self, images: Float[Tensor, "b 3 hp wp"]) -> Float[Tensor, "b n d"]:
        """Patches row by row, without class token and registers."""
        cells = self.patch_embed(images)
        tokens = rearrange(cells, "b d h w -> b (h w) d") + self.positions(*cells.shape[-2:])
        count = len(tokens)
        before = [self.cls_token + self.pos_embed[:, :1], self.register_tokens]
        x = torch.cat([*(part.expand(count, -1, -1) for part in before), tokens], 1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, 1 + self.register_tokens.shape[1]:])

    def positions(self, height: int, width: int) -> Float[Tensor, "1 n d"]:
        """Of the patches of a grid, interpolated if it is not the one it was trained on."""
        known = self.pos_embed[:, 1:]
        if (height, width) == (self.grid, self.grid):
            return known
        known = rearrange(known, "1 (h w) d -> 1 d h w", h=self.grid)
        known = F.interpolate(known.float(), (height, width), mode="bicubic", antialias=True, align_corners=False).to(known)
        return rearrange(known, "1 d h w -> 1 (h w) d")

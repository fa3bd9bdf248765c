"""VGGT's aggregator (arXiv 2503.11651, sec. 3.2): attention within each frame and across all of them, in turn.

    images   [B, S, 3, H, W] in [0, 1], H and W multiples of the patch's side
    patches  [B, S, P, D]     of DINOv2, normalised: the semantic tokens of VO-DP (arXiv 2510.15530)
    layers   per pair of blocks [B, S, 5 + P, 2·D]: a frame's camera token, its registers, its patches; what attention within the frame made
             of them beside what attention across frames did. The last, patches only, are VO-DP's geometric tokens

The first frame is the reference: its camera and register tokens are others than those of all later frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from perception.vggt.dinov2 import DinoV2
from perception.vggt.layers import Block, grid_positions

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SCALE = 0.01
"""Where LayerScale starts."""


class Aggregator(nn.Module):
    """See the module's text."""

    def __init__(self, eye: DinoV2, dim: int, depth: int, heads: int, registers: int = 4) -> None:
        super().__init__()
        self.patch_embed = eye
        self.camera_token = nn.Parameter(torch.randn(1, 2, 1, dim) * 1e-6)
        self.register_token = nn.Parameter(torch.randn(1, 2, registers, dim) * 1e-6)
        self.frame_blocks, self.global_blocks = (
            nn.ModuleList(Block(dim, heads, scale=SCALE, normalise=True) for _ in range(depth)) for _ in range(2))

    @property
    def first_patch(self) -> int:
        """How many tokens of a frame come before its patches."""
        return 1 + self.register_token.shape[2]

    def forward(self, images: Float[Tensor, "b s 3 hp wp"],
                keep: Sequence[int] = (-1,)) -> tuple[Float[Tensor, "b s p d"], list[Float[Tensor, "b s l d2"]]]:
        """The patches, and those of the layers that are in `keep`, in its order."""
        batch, frames = images.shape[:2]
        height, width = (side // self.patch_embed.patch for side in images.shape[-2:])
        patches = self.patch_embed(rearrange(normalised(images), "b s c h w -> (b s) c h w"))
        special = torch.cat([self.camera_token, self.register_token], 2)
        special = torch.cat([special[:, :1], special[:, 1:].expand(-1, frames - 1, -1, -1)], 1)
        special = rearrange(special.expand(batch, -1, -1, -1), "b s n d -> (b s) n d")
        x, where = torch.cat([special, patches], 1), self.positions(height, width, images.device)
        wanted, made = [index % len(self.frame_blocks) for index in keep], {}
        for number, (within, across) in enumerate(zip(self.frame_blocks, self.global_blocks, strict=True)):
            x = within_frames = within(x, where.expand(batch * frames, -1, -1))
            x = rearrange(x, "(b s) n d -> b (s n) d", s=frames)
            x = across(x, where.repeat(1, frames, 1).expand(batch, -1, -1))
            x = rearrange(x, "b (s n) d -> (b s) n d", s=frames)
            if number in wanted:
                made[number] = rearrange(torch.cat([within_frames, x], -1), "(b s) n d -> b s n d", s=frames)
        return rearrange(patches, "(b s) n d -> b s n d", s=frames), [made[number] for number in wanted]

    def positions(self, height: int, width: int, device: torch.device) -> Int[Tensor, "1 n 2"]:
        """(row, column) of a frame's tokens: the special ones at 0, the patches from 1 on."""
        return torch.cat([torch.zeros(self.first_patch, 2, dtype=torch.long, device=device), grid_positions(height, width, device) + 1])[None]


def normalised(images: Float[Tensor, "*n 3 h w"]) -> Float[Tensor, "*n 3 h w"]:
    """By ImageNet's mean and deviation."""
    return (images - images.new_tensor(MEAN)[:, None, None]) / images.new_tensor(DEVIATION)[:, None, None]

"""OpenVLA's eyes: DINOv2 and SigLIP side by side, and the projector into the language model (arXiv 2406.09246, sec. 3.1).

Both towers are timm's. Each sees the picture with its own normalisation; the patch tokens of the second-to-last block are
concatenated by channel, DINOv2's first.

    picture   [B, 3, H, W] in [0, 1]; resized to 224×224 if it is not (bicubic, the aspect ratio is not kept)
    features  [B, 256, 2176]         1024 of DINOv2 and 1152 of SigLIP, 16×16 patches
    embedded  [B, 256, 4096]         by the projector, 2176 → 8704 → 4096 → 4096
"""

from __future__ import annotations

from typing import Any

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn


class Tower(BaseModel):
    """One timm vision transformer: `name`, `options` that override its published sizes, and its normalisation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    options: dict[str, Any] = {}
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# Means and deviations as in the published `preprocessor_config.json`: ImageNet's, rounded to bfloat16, for DINOv2.
DINOV2 = Tower(name="vit_large_patch14_reg4_dinov2", mean=(0.484375, 0.455078125, 0.40625),
               std=(0.228515625, 0.2236328125, 0.224609375))
SIGLIP = Tower(name="vit_so400m_patch14_siglip_224", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


class Vision(BaseModel):
    """Both towers and the size of the square picture they see, in pixels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: Tower = DINOV2
    second: Tower = SIGLIP
    size: int = Field(default=224, ge=1)


class FusedTowers(nn.Module):
    """`[B, 3, H, W]` in [0, 1] → `[B, N, D1 + D2]`. The last blocks, which nobody reads, stay: their weights are published."""

    def __init__(self, config: Vision, dtype: torch.dtype) -> None:
        super().__init__()
        self.size = config.size
        self.featurizer, self.fused_featurizer = (
            timm.create_model(tower.name, pretrained=False, num_classes=0, img_size=config.size, dtype=dtype, **tower.options)
            for tower in (config.first, config.second))
        self.dim = self.featurizer.embed_dim + self.fused_featurizer.embed_dim
        for name in ("mean", "std"):
            values = torch.tensor([getattr(tower, name) for tower in (config.first, config.second)])
            self.register_buffer(name, values[:, :, None, None], persistent=False)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        images = images.float()
        if images.shape[-2:] != (self.size, self.size):
            images = F.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True).clamp(0.0, 1.0)
        towers = (self.featurizer, self.fused_featurizer)
        return torch.cat([second_to_last(tower, (images - mean) / std)
                          for tower, mean, std in zip(towers, self.mean.float(), self.std.float(), strict=True)], -1)


def second_to_last(tower: nn.Module, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
    """Patch tokens (no class token, no registers) of the block before the last, without the final norm."""
    images = images.to(tower.patch_embed.proj.weight.dtype)
    (patches,) = tower.forward_intermediates(images, [len(tower.blocks) - 2], norm=False, stop_early=True,
                                             output_fmt="NLC", intermediates_only=True)
    return patches


class Projector(nn.Module):
    """Three layers with GELU between them; the first is four times as wide as its input."""

    def __init__(self, vision_dim: int, language_dim: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.fc1 = nn.Linear(vision_dim, 4 * vision_dim, dtype=dtype)
        self.fc2 = nn.Linear(4 * vision_dim, language_dim, dtype=dtype)
        self.fc3 = nn.Linear(language_dim, language_dim, dtype=dtype)

    def forward(self, features: Float[Tensor, "*shape v"]) -> Float[Tensor, "*shape d"]:
        return self.fc3(F.gelu(self.fc2(F.gelu(self.fc1(features)))))

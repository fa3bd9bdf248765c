"""Random-shift augmentation (DrQ-v2, arXiv 2107.09645, sec. 3.1): pad by replication, crop back at a random offset.

Every view of every sample is shifted on its own, by whole pixels. In evaluation it does nothing. It is not frozen: a recipe that
uses it recomputes what follows at every step, or computes a few shifts of each frame ahead (`train.cached_views`).

Images in and out: `float [B, V, 3, H, W]`.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from pydantic import Field

from perception.percept import Batch, FrontEnd, Percept
from robot_io.registry import ComponentConfig


class RandomShift(FrontEnd):
    """Shift each view by up to `pad` pixels in x and y while training."""

    frozen, augments = False, True

    class Config(ComponentConfig):
        kind: Literal["shift"] = "shift"
        pad: int = Field(4, ge=1, description="largest shift, in pixels")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, observations: Batch, percept: Percept) -> Percept:
        if not self.training or percept.images is None:
            return percept
        views = percept.images.shape[1]
        images = rearrange(percept.images, "b v c h w -> (b v) c h w")
        count, _, height, width = images.shape
        pad = self.config.pad
        padded = F.pad(images, (pad, pad, pad, pad), mode="replicate")
        offset_x, offset_y = torch.randint(0, 2 * pad + 1, (2, count, 1), device=images.device)
        rows = (offset_y + torch.arange(height, device=images.device))[:, None, :, None]
        columns = (offset_x + torch.arange(width, device=images.device))[:, None, None, :]
        sample = torch.arange(count, device=images.device)[:, None, None, None]
        channel = torch.arange(3, device=images.device)[None, :, None, None]
        shifted = padded[sample, channel, rows, columns]
        return percept.replace(images=rearrange(shifted, "(b v) c h w -> b v c h w", v=views))

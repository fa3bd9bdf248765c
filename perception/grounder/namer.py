"""The grounder's second half: a thing, cut out of the picture → its colour and its shape, or neither.

    cut ──▶ RGB, outline                                     ──▶ colour
       └──▶ brightness beside the thing's own mean, outline  ──▶ shape

The cut is scaled by the thing's own size, so that near and far things look alike. The shape is told from shading and outline without
colour, so that a pair of colour and shape that was never shown together is nothing special; and each has "none of these", for patches
of table, parts of the robot and things outside the vocabulary.

Shapes: N things, C colours, S shapes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

CUT = 32
MARGIN = 1.4
"""Side of the cut, in longer sides of the thing's box."""
SMALLEST = 10 / 128
"""Side of the smallest cut, as a share of the picture's."""


class Namer(nn.Module):
    """Cuts → logits of colours and of shapes; the last of each is "none of these"."""

    def __init__(self, colors: tuple[str, ...], shapes: tuple[str, ...], width: int = 32) -> None:
        super().__init__()
        self.colors, self.shapes, self.width = tuple(colors), tuple(shapes), width
        self.color = nn.Sequential(
            block(4, 24, 2, kernel=5),
            block(24, 48, 2),
            block(48, 48),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(48 * (CUT // 8) ** 2, 64),
            nn.ReLU(),
            nn.Linear(64, len(self.colors) + 1),
        )
        self.shape = nn.Sequential(
            block(2, width, 2, kernel=5),
            block(width, width),
            block(width, 2 * width, 2),
            block(2 * width, 2 * width),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * (CUT // 8) ** 2, 128),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(128, len(self.shapes) + 1),
        )

    def forward(self, cuts: Float[Tensor, "n 4 32 32"]) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n s"]]:
        rgb, outline = cuts[:, :3], cuts[:, 3:]
        mean = (rgb * outline).sum((1, 2, 3)) / (3 * outline).sum((1, 2, 3)).clamp_min(1e-3)
        shading = rgb.mean(1, keepdim=True) / mean[:, None, None, None].clamp_min(0.03) - 1
        return self.color(cuts * 2 - 1), self.shape(torch.cat([shading.clamp(-1, 2), outline * 2 - 1], 1))


def block(channels_in: int, channels_out: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution, batch norm, ReLU. Batch norm learns faster here; its statistics are fixed once trained."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def frames(masks: Float[Tensor, "n h w"]) -> Float[Tensor, "n 3"]:
    """Where to cut: centre x, y and side, as shares of the picture, of masks that are not empty."""
    made = []
    for mask in masks > 0.5:
        ends = []
        for axis, size in ((0, mask.shape[1]), (1, mask.shape[0])):
            at = mask.any(axis).nonzero()
            ends += [at[0] / size, (at[-1] + 1) / size]
        left, right, top, bottom = torch.cat(ends)
        side = (torch.maximum(right - left, bottom - top) * MARGIN).clamp_min(SMALLEST)
        made.append(torch.stack([(left + right) / 2, (top + bottom) / 2, side]))
    return torch.stack(made)


def cut(
    images: Float[Tensor, "b 3 h w"], masks: Float[Tensor, "n k l"], owner: Int[Tensor, " n"], where: Float[Tensor, "n 3"]
) -> Float[Tensor, "n 4 32 32"]:
    """Square pieces of the pictures `images[owner]` at `where` (see `frames`), with the masks as fourth channel."""
    steps = (torch.arange(CUT, device=where.device) + 0.5) / CUT - 0.5
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    grid = where[:, None, None, :2] + torch.stack([x, y], -1) * where[:, 2, None, None, None]
    options = {"mode": "bilinear", "align_corners": False}
    pieces = F.grid_sample(images[owner], grid * 2 - 1, padding_mode="border", **options)
    outline = F.grid_sample(masks[:, None], grid * 2 - 1, padding_mode="zeros", **options)
    return torch.cat([pieces, outline], 1)

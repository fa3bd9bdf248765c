"""The grounder's first half: one picture → its things, whatever they are called.

    picture ──▶ encoder, decoder ──▶ every pixel: background, object, bowl or robot; where its thing's centre is; how large it is

Pixels that vote for the same centre are one thing (`things.py`), as in Neven et al., "Instance Segmentation by Jointly Optimizing
Spatial Embeddings" (arXiv 1906.11109), without its learnt bandwidth. What a thing is called is for `namer.py`.

Shapes: B pictures of 128×128; maps have stride 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SIZE, STRIDE = 128, 2
KINDS = ("background", "object", "bowl", "robot")


def normalise(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(8, channels)


def convolve(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, group norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
        normalise(channels_out),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two 3×3 convolutions and a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolve(channels, channels), nn.Conv2d(channels, channels, 3, padding=1, bias=False), normalise(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x), inplace=True)


class Merge(nn.Module):
    """A coarse map, enlarged, and a fine one → one fine map."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(coarse, fine, 1)
        self.smooth = convolve(fine, fine)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        return self.smooth(fine + F.interpolate(self.narrow(coarse), scale_factor=2.0, mode="nearest"))


@dataclass(frozen=True)
class Sight:
    """What the segmenter sees in B pictures.

    Attributes:
        kinds: logits `[B, 4, 64, 64]` of `KINDS`.
        offset: `[B, 2, 64, 64]`, from each pixel to its thing's centre, x and y, in units of the thing's size.
        size: `[B, 64, 64]`, logarithm of the size (square root of the visible area) in pixels of the 128×128 picture.
    """

    kinds: Float[Tensor, "b 4 h w"]
    offset: Float[Tensor, "b 2 h w"]
    size: Float[Tensor, "b h w"]


class Segmenter(nn.Module):
    """Pictures → `Sight`.

    Args:
        width: channels at stride 2; 2, 4 and 6 times as many at strides 4, 8 and 16.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.width = width
        w2, w4, w8, w16 = width, 2 * width, 4 * width, 6 * width
        self.stem = convolve(3, w2, 5, 2)
        self.down4 = nn.Sequential(convolve(w2, w4, 3, 2), Residual(w4))
        self.down8 = nn.Sequential(convolve(w4, w8, 3, 2), Residual(w8), Residual(w8))
        self.down16 = nn.Sequential(convolve(w8, w16, 3, 2), Residual(w16), Residual(w16))
        self.up8, self.up4, self.up2 = Merge(w16, w8), Merge(w8, w4), Merge(w4, w2)
        self.head = nn.Conv2d(w2, len(KINDS) + 3, 3, padding=1)

    def forward(self, images: Float[Tensor, "b 3 128 128"]) -> Sight:
        """`images` in [0, 1]."""
        f2 = self.stem(images * 2 - 1)
        f4 = self.down4(f2)
        f8 = self.down8(f4)
        f8 = self.up8(self.down16(f8), f8)
        kinds, offset, size = self.head(self.up2(self.up4(f8, f4), f2)).split((len(KINDS), 2, 1), 1)
        return Sight(kinds, offset, size.squeeze(1))

"""VGGT put together (arXiv 2503.11651): the aggregator and the depth head, at the published size or any other.

    images [B, S, 3, H, W] in [0, 1] ──aggregator──▶ patches [B, S, P, D], layers ──depth head──▶ depth [B, S, H, W]

Depth is in units of the scene's size as the published network sees it, and in metres from the small one trained here. The published
checkpoint's other heads (camera, points, tracks) are not needed for tokens and depth, and are not built: `UNUSED`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from perception.vggt.aggregator import Aggregator
from perception.vggt.dinov2 import DinoV2
from perception.vggt.dpt import DepthHead

UNUSED = ("camera_head.", "point_head.", "track_head.")
"""How the names of tensors begin that the published checkpoint has and this model does not use."""


@dataclass(frozen=True)
class Sizes:
    """The defaults are those of `facebook/VGGT-1B`.

    Attributes:
        dim, heads: of every transformer.
        eye_depth, depth: blocks of the patch embedding, pairs of blocks of the aggregator.
        patch, image_size: pixels; the second is what the patch embedding has positions for.
        stem: channels of convolutions before the patches; none in the published one.
        depth_layers, channels, features: of the depth head; four layers of the aggregator, counted from 0.
    """

    dim: int = 1024
    heads: int = 16
    eye_depth: int = 24
    depth: int = 24
    patch: int = 14
    image_size: int = 518
    registers: int = 4
    stem: tuple[int, ...] = ()
    depth_layers: tuple[int, ...] = (4, 11, 17, 23)
    channels: tuple[int, ...] = (256, 512, 1024, 1024)
    features: int = 256

    def eye(self) -> DinoV2:
        """The patch embedding alone."""
        return DinoV2(self.dim, self.eye_depth, self.heads, self.patch, self.image_size, self.registers, self.stem)


class Vggt(nn.Module):
    """See the module's text."""

    def __init__(self, sizes: Sizes = Sizes()) -> None:
        super().__init__()
        self.sizes = sizes
        self.aggregator = Aggregator(sizes.eye(), sizes.dim, sizes.depth, sizes.heads, sizes.registers)
        self.depth_head = DepthHead(2 * sizes.dim, sizes.patch, sizes.channels, sizes.features)

    def tokens(self, images: Float[Tensor, "b s 3 h w"]) -> tuple[Float[Tensor, "b s p d"], Float[Tensor, "b s p d2"]]:
        """Semantic and geometric tokens of the patches: the patch embedding's, and the aggregator's last layer's."""
        patches, (last,) = self.aggregator(images)
        return patches, last[:, :, self.aggregator.first_patch:]

    def forward(self, images: Float[Tensor, "b s 3 h w"]) -> tuple[Float[Tensor, "b s h w"], Float[Tensor, "b s h w"]]:
        """Depth along the optical axis, and how sure it is (from 1 up)."""
        _, layers = self.aggregator(images, self.sizes.depth_layers)
        return self.depth_of(layers, images.shape[-2:])

    def depth_of(self, layers: list[Float[Tensor, "b s l d"]], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Depth and its confidence from the `depth_layers` of pictures of `size`."""
        frames = layers[0].shape[1]
        cells = [rearrange(layer[:, :, self.aggregator.first_patch:], "b s n d -> (b s) n d") for layer in layers]
        depth, confidence = self.depth_head(cells, *size)
        return depth.unflatten(0, (-1, frames)), confidence.unflatten(0, (-1, frames))


def fitted(images: Float[Tensor, "*n 3 h w"], width: int, patch: int) -> Float[Tensor, "*n 3 h2 w2"]:
    """Resized to about `width` pixels across, both sides multiples of `patch` (arXiv 2510.15530: 240×320 becomes 238×322)."""
    height = images.shape[-2] * width / images.shape[-1]
    size = [max(1, round(side / patch)) * patch for side in (height, width)]
    if list(images.shape[-2:]) == size:
        return images
    flat = images.reshape(-1, *images.shape[-3:])
    return F.interpolate(flat, size, mode="bilinear", antialias=True, align_corners=False).unflatten(0, images.shape[:-3])

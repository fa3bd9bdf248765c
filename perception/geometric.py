"""Geometric grounding: the policy sees depth, or another reading of geometry, of the grounded things and nothing else.

OBEYED-VLA (arXiv 2512.22519): depth is clipped, coloured with matplotlib's 'rainbow' map, kept on the union of the
target's, the container's and the robot's masks, black elsewhere; each mask is outlined on its inside, a Set1 colour
per role. Without `Percept.regions` the whole picture is drawn: the ablation "geometry only". `show` chooses what is
drawn, so that each part can be ablated: `depth`, surface `normals`, or `rgb` (object-centric without geometry).

The paper clips at 2 m and outlines 3 pixels of camera pictures several hundred wide: `near=0 far=2 outline=3`. The
defaults suit a table before a camera: at 0.05 to 1.2 m and 128 pixels, three pixels would cover most of a cube.

Replaces `Percept.images float [B, V, 3, H, W]`; reads depth `float [B, V, H, W]` in metres.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor

from perception.lifting import known, normals, view_depth, view_intrinsics
from perception.object_tokens import ObjectTokens
from perception.percept import Batch, FrontEnd, Percept
from perception.regions import CONTAINER, ROBOT, TARGET, Regions
from robot_io import UserError
from robot_io.registry import ComponentConfig

SET1 = {TARGET: (228, 26, 28), CONTAINER: (55, 126, 184), ROBOT: (77, 175, 74)}
"""ColorBrewer's Set1, its first three colours, 8 bits."""


class Geometric(FrontEnd):
    """See the module's text."""

    needs_depth = True

    class Config(ComponentConfig):
        kind: Literal["geometric"] = "geometric"
        show: Literal["depth", "normals", "rgb"] = "depth"
        near: float = Field(0.05, ge=0, description="metres; nearer is drawn as this near")
        far: float = Field(1.2, gt=0, description="metres; farther is drawn as this far (the paper: 2.0)")
        outline: int = Field(1, ge=0, description="pixels of outline inside each mask (the paper: 3)")
        tokens: bool = Field(False, description="also give the things as tokens, as {kind: object_tokens} does")

        @model_validator(mode="after")
        def _near_before_far(self) -> Geometric.Config:
            if self.near >= self.far:
                raise UserError("geometric.near", f"{self.near} m", f"less than far = {self.far} m", "lower near or raise far")
            return self

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.objects = ObjectTokens(ObjectTokens.Config()) if config.tokens else None
        self.token_dim = self.objects.token_dim if self.objects else None

    def forward(self, observations: Batch, percept: Percept) -> Percept:
        """Raises `UserError` without depth (or intrinsics, for normals), and for tokens without regions."""
        images = PAINTERS[self.config.show](self.config, observations, percept)
        if percept.regions is not None:
            images = outlined(images * percept.regions.union[:, :, None], percept.regions, self.config.outline)
        depth = view_depth(observations, percept, "geometric")
        seen = percept.replace(images=images, evidence={**percept.evidence, "geometric/depth": depth})
        return seen if self.objects is None else self.objects(observations, seen)


def draw_depth(config: Geometric.Config, batch: Batch, percept: Percept) -> Float[Tensor, "b v 3 h w"]:
    """Depth in rainbow colours, violet near to red far; black where unknown."""
    depth = view_depth(batch, percept, "geometric")
    share = (depth.clamp(config.near, config.far) - config.near) / (config.far - config.near)
    colours = rainbow().to(depth.device)[(share.nan_to_num() * 255).long()].movedim(-1, 2)
    return colours * known(depth)[:, :, None]


def draw_normals(config: Geometric.Config, batch: Batch, percept: Percept) -> Float[Tensor, "b v 3 h w"]:
    """Surface normals, camera frame: x, y and z from -1 to 1 as red, green and blue; black where unknown."""
    depth = view_depth(batch, percept, "geometric")
    found = normals(depth, view_intrinsics(batch, "geometric"))
    return ((found + 1) / 2 * found.ne(0).any(-1, keepdim=True)).movedim(-1, 2)


def draw_rgb(config: Geometric.Config, batch: Batch, percept: Percept) -> Float[Tensor, "b v 3 h w"]:
    """The pictures as they are."""
    return percept.images


PAINTERS: dict[str, Callable[[Geometric.Config, Batch, Percept], Tensor]] = {
    "depth": draw_depth, "normals": draw_normals, "rgb": draw_rgb}


@lru_cache(maxsize=1)
def rainbow() -> Float[Tensor, "256 3"]:
    """matplotlib's 'rainbow' map by its formula: red |2x - 1/2|, green sin πx, blue cos πx/2."""
    x = torch.linspace(0, 1, 256, dtype=torch.float64)
    return torch.stack([(2 * x - 0.5).abs(), (math.pi * x).sin(), (math.pi / 2 * x).cos()], -1).clamp(0, 1).float()


def outlined(images: Float[Tensor, "b v 3 h w"], regions: Regions, pixels: int) -> Float[Tensor, "b v 3 h w"]:
    """`images` with each mask's inner border in its role's colour, the target's on top; none along the picture's own edge."""
    if pixels == 0:
        return images
    borders = regions.masks & ~eroded(regions.masks, pixels)
    for role in reversed(regions.roles):
        colour = images.new_tensor(SET1[role]).view(3, 1, 1) / 255
        images = torch.where(borders[:, :, regions.roles.index(role), None], colour, images)
    return images


def eroded(masks: Bool[Tensor, "*n h w"], pixels: int) -> Bool[Tensor, "*n h w"]:
    """Without the pixels within `pixels` (also diagonally) of one outside; beyond the picture nothing counts as outside."""
    for _ in range(pixels):
        inner = masks.clone()
        inner[..., 1:] &= masks[..., :-1]
        inner[..., :-1] &= masks[..., 1:]
        masks = inner.clone()
        masks[..., 1:, :] &= inner[..., :-1, :]
        masks[..., :-1, :] &= inner[..., 1:, :]
    return masks

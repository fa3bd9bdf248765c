"""Object-centric pictures: what the instruction is about stays, and the rest is blacked, blurred, averaged or painted over.

`fill: black` is OBEYED-VLA's ablation "object-centric only" (arXiv 2512.22519): masked RGB without geometry. Painting
over keeps the scene natural for backbones pretrained on whole pictures, as BYOVLA does (arXiv 2410.01971). Painting
over here is a background estimate, not a generative model: in each place the median colour of a wide neighbourhood,
the grounded things left out of it. Whatever is much smaller than the neighbourhood vanishes; table and backdrop stay,
without texture.

Reads `Percept.regions`; replaces `Percept.images float [B, V, 3, H, W]`. A view where nothing was found is filled
entirely.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from perception.percept import Batch, FrontEnd, Percept
from perception.regions import ROBOT, require_regions
from robot_io.registry import ComponentConfig

COARSE = 16  # side of the grid that the background is estimated on
Pictures = Float[Tensor, "n 3 h w"]
Things = Bool[Tensor, "n 1 h w"]


class Masking(FrontEnd):
    """See the module's text."""

    class Config(ComponentConfig):
        kind: Literal["masking"] = "masking"
        fill: Literal["black", "constant", "blur", "mean", "inpaint"] = "black"
        color: tuple[float, float, float] = Field((0.5, 0.5, 0.5), description="of `constant`: RGB, 0 to 1")
        keep_robot: bool = Field(True, description="the robot's own mask stays, if grounding gives one")
        blur: float = Field(0.05, gt=0, le=0.5, description="standard deviation of the blur, in picture widths")
        window: float = Field(0.5, gt=0, le=1, description="neighbourhood of the median, in picture widths: "
                              "things up to about half as wide vanish")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, observations: Batch, percept: Percept) -> Percept:
        """Raises `UserError` if nothing has been grounded before."""
        regions = require_regions(percept.regions, "masking")
        roles = [i for i, role in enumerate(regions.roles) if role != ROBOT or self.config.keep_robot]
        selected = regions.masks[:, :, roles].any(2)
        things, pictures = regions.union.flatten(0, 1)[:, None], percept.images.flatten(0, 1)
        filled = FILLS[self.config.fill](self.config, pictures, things)
        images = torch.where(selected.flatten(0, 1)[:, None], pictures, filled).view_as(percept.images)
        return percept.replace(images=images, evidence={**percept.evidence, "masking/kept": selected})


def black(config: Masking.Config, pictures: Pictures, things: Things) -> Pictures:
    return torch.zeros_like(pictures)


def constant(config: Masking.Config, pictures: Pictures, things: Things) -> Pictures:
    """The same colour in every picture, whatever the table looks like: the demonstrations' own, for an eye that knows tables."""
    return pictures.new_tensor(config.color).view(1, 3, 1, 1).expand_as(pictures)


def mean(config: Masking.Config, pictures: Pictures, things: Things) -> Pictures:
    """The mean colour of what was not grounded, of each picture on its own."""
    rest = (~things).to(pictures)
    colour = (pictures * rest).sum((-1, -2), keepdim=True) / rest.sum((-1, -2), keepdim=True).clamp(min=1)
    return colour.expand_as(pictures)


def blur(config: Masking.Config, pictures: Pictures, things: Things) -> Pictures:
    """The picture through a Gaussian, to 3 standard deviations."""
    sigma = config.blur * pictures.shape[-1]
    reach = min(max(1, round(3 * sigma)), min(pictures.shape[-2:]) - 1)
    weights = torch.exp(-torch.arange(-reach, reach + 1, device=pictures.device).square() / (2 * sigma**2))
    weights = (weights / weights.sum()).expand(3, 1, -1)
    across = F.conv2d(F.pad(pictures, (reach, reach, 0, 0), mode="reflect"), weights[:, :, None], groups=3)
    return F.conv2d(F.pad(across, (0, 0, reach, reach), mode="reflect"), weights[..., None], groups=3)


def inpaint(config: Masking.Config, pictures: Pictures, things: Things) -> Pictures:
    """The background as medians of wide neighbourhoods, grounded things left out; where those cover a whole neighbourhood,
    the mean colour of the rest."""
    rest = F.adaptive_avg_pool2d((~things).float(), COARSE)
    coarse = F.adaptive_avg_pool2d(pictures * ~things, COARSE) / rest.clamp(min=1e-6)
    coarse = torch.where(rest > 0.5, coarse, torch.nan)
    reach = max(1, round(config.window * COARSE / 2))
    padded = F.pad(coarse, (reach,) * 4, value=torch.nan)
    width = 2 * reach + 1
    around = padded.unfold(-2, width, 1).unfold(-2, width, 1).flatten(-2)
    background = around.nanmedian(-1).values
    background = torch.where(background.isnan(), mean(config, pictures, things)[..., :1, :1], background)
    return F.interpolate(background, pictures.shape[-2:], mode="bilinear", align_corners=False)


FILLS: dict[str, Callable[[Masking.Config, Pictures, Things], Pictures]] = {
    "black": black, "constant": constant, "blur": blur, "mean": mean, "inpaint": inpaint}

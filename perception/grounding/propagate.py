"""A light tracker: the pixels near the last mask that look like the thing and unlike what surrounds it.

Histogram back-projection with a growing search window, after CamShift (Bradski, 1998): at the start each thing's colours and those
around it are counted; at each step the pixels near its last place that are likelier its than the surroundings' form patches. The
thing is the patch that overlaps the last mask most, and every other that lies on it (an arm is of many colours), and what it
covered before and looks just as it did. Holes stay open: what shows between two fingers is not the gripper. A thing that is
covered is empty until it shows again near where it was last seen. About a millisecond a picture of two things at 128×128.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import Field
from scipy import ndimage

from perception.grounding.candidates import boxes_of, colour_bins, colours
from perception.stages import Picture
from robot_io.registry import ComponentConfig


@dataclass(frozen=True)
class Thing:
    """What is remembered of one thing.

    Attributes:
        chance: `float32 [bins]`, per colour the probability that a pixel of it is the thing's.
        last: `bool [H, W]`, where it was last seen.
        looked: `int64 [H, W]`, the colour bins of the picture in which it was.
        area: pixels at the start.
    """

    chance: Float[np.ndarray, " bins"]
    last: Bool[np.ndarray, "h w"]
    looked: Int[np.ndarray, "h w"]
    area: int


class Propagate:
    """See the module's text."""

    carries: ClassVar[bool] = True

    class Config(ComponentConfig):
        kind: Literal["propagate"] = "propagate"
        reach: float = Field(1.0, gt=0, description="how far beyond its box a thing is looked for, in box sizes")
        share: float = Field(0.3, gt=0, le=1, description="a further patch belongs to a thing if more of it lies on its last mask")
        least: float = Field(0.15, ge=0, le=1, description="below this share of its first area a thing counts as covered")
        most: float = Field(4.0, ge=1, description="above this share something else has been caught")

    def __init__(self, config: Config) -> None:
        self.config = config

    def start(self, picture: Picture, masks: Bool[np.ndarray, "r h w"]) -> list[Thing | None]:
        bins = colour_bins(picture)
        return [self._learn(picture, bins, mask) if mask.any() else None for mask in masks]

    def step(self, memory: list[Thing | None], picture: Picture) -> tuple[list[Thing | None], Bool[np.ndarray, "r h w"]]:
        bins = colour_bins(picture)
        masks = np.zeros((len(memory), *picture.shape[:2]), bool)
        carried: list[Thing | None] = []
        for mask, thing in zip(masks, memory, strict=True):
            if thing is not None and (found := self._find(bins, thing)) is not None:
                mask[:] = found
                thing = replace(thing, last=found, looked=bins)
            carried.append(thing)
        return carried, masks

    def _learn(self, picture: Picture, bins: Int[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> Thing:
        window = np.zeros_like(mask)
        window[self._window(mask)] = True
        own, around = colours(picture, mask), colours(picture, window & ~mask)
        return Thing(own / np.maximum(own + around, 1e-9), mask, bins, int(mask.sum()))

    def _find(self, bins: np.ndarray, thing: Thing) -> Bool[np.ndarray, "h w"] | None:
        rows, columns = self._window(thing.last)
        patches, count = ndimage.label(thing.chance[bins[rows, columns]] > 0.5)
        if not count:
            return None
        sizes = np.bincount(patches.ravel(), minlength=count + 1).astype(float)
        shared = np.bincount(patches[thing.last[rows, columns]], minlength=count + 1).astype(float)
        sizes[0] = shared[0] = 0
        mine = shared > self.config.share * sizes
        mine[int((shared + 1e-3 * sizes).argmax())] = True
        mine[0] = False
        if not self.config.least * thing.area <= sizes[mine].sum() <= self.config.most * thing.area:
            return None
        found = thing.last & (bins == thing.looked)
        found[rows, columns] |= mine[patches]
        return found

    def _window(self, mask: Bool[np.ndarray, "h w"]) -> tuple[slice, slice]:
        """Rows and columns of the mask's box and what is within reach of it."""
        x0, y0, x1, y1 = boxes_of(mask[None])[0].astype(int)
        reach = int(np.ceil(self.config.reach * max(x1 - x0, y1 - y0)))
        return slice(max(y0 - reach, 0), y1 + reach), slice(max(x0 - reach, 0), x1 + reach)

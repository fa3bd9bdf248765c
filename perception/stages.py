"""The stages of object-centric grounding as small contracts: detect, segment, select, track.

    pictures + phrases ──Detector──▶ Detections ──Segmenter──▶ with masks ──Selector──▶ one per role, or none ──Tracker──▶ …

Each has several implementations chosen by `kind` from the registries in `perception.grounding`. All work on lists of
pictures, because training grounds whole batches at once. NumPy in and out: published detectors have their own pre-processing.

Shapes: N detections, H×W pixels; boxes are `x0 y0 x1 y1` in pixels of the picture, exclusive at the high end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

Picture = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Detections:
    """What a detector found in one picture.

    Attributes:
        boxes: `float32 [N, 4]`.
        scores: `float32 [N]` in [0, 1].
        phrase: `int64 [N]`, the index of the phrase that each answers.
        masks: `bool [N, H, W]`, or None from detectors that give boxes only (a `Segmenter` adds them).
    """

    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]
    phrase: Int[np.ndarray, " n"]
    masks: Bool[np.ndarray, "n h w"] | None = None

    def __len__(self) -> int:
        return len(self.boxes)


class Detector(Protocol):
    """Phrases → boxes, or masks at once."""

    def detect(self, pictures: Sequence[Picture], phrases: Sequence[Sequence[str]]) -> list[Detections]:
        """One `Detections` per picture, for that picture's own phrases."""
        ...


class Segmenter(Protocol):
    """Boxes → masks."""

    def segment(self, pictures: Sequence[Picture], detections: Sequence[Detections]) -> list[Detections]:
        """The same detections with masks."""
        ...


class Selector(Protocol):
    """Candidates → the one that is meant, or none."""

    def select(self, picture: Picture, candidates: Detections, phrases: Sequence[str], instruction: str,
               references: Sequence[Picture | None]) -> list[int | None]:
        """For every phrase the index of its detection, None where nothing matches.

        Args:
            references: per phrase a crop of the thing from the base view, to find it again in another view; None for
                the base view itself or where it was not found.
        """
        ...


class Tracker(Protocol):
    """Masks of one view's things carried from picture to picture. One tracker object serves many episodes: all that it
    remembers is in the value that `start` returns and `step` passes on."""

    def start(self, picture: Picture, masks: Bool[np.ndarray, "r h w"]) -> object: ...

    def step(self, memory: object, picture: Picture) -> tuple[object, Bool[np.ndarray, "r h w"]]: ...

"""The stages of object-centric grounding as small contracts: detect, segment, select, track.

    pictures + phrases ──Detector──▶ Detections ──Segmenter──▶ with masks ──Selector──▶ one per phrase, or none ──Tracker──▶ …

Each has several implementations chosen by `kind` from the registries in `perception.grounding`; `perception.object_centric` runs
them. All work on lists of pictures, because training grounds whole batches at once. NumPy in and out: published detectors
have their own pre-processing.

Shapes: N detections, P phrases, H×W pixels; boxes are `x0 y0 x1 y1` in pixels of the picture, exclusive at the high end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

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
        positions: `float32 [N, 3]`, middles of the visible surfaces in the robot's base frame, metres, NaN where unknown. The
            front-end fills it in where depth, intrinsics and the camera's pose are known; None elsewhere.
    """

    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]
    phrase: Int[np.ndarray, " n"]
    masks: Bool[np.ndarray, "n h w"] | None = None
    positions: Float[np.ndarray, "n 3"] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def keep(self, which: Bool[np.ndarray, " n"] | Int[np.ndarray, " k"]) -> Detections:
        """Only some of them, by mask or by index."""
        masks, positions = (None if value is None else value[which] for value in (self.masks, self.positions))
        return Detections(self.boxes[which], self.scores[which], self.phrase[which], masks, positions)

    def with_masks(self, masks: Bool[np.ndarray, "n h w"]) -> Detections:
        return replace(self, masks=masks)


class Detector(Protocol):
    """Phrases → boxes, or masks at once."""

    def detect(self, pictures: Sequence[Picture], phrases: Sequence[Sequence[str]]) -> list[Detections]:
        """One `Detections` per picture, for that picture's own phrases. Unsure ones too: the front-end has the threshold."""
        ...


class OracleDetector(Protocol):
    """A detector with `oracle = True` is told the truth: `labels` are, per picture, the simulator's own masks by name, None
    where it gives none. It is an upper bound, and a policy that uses it cannot be served."""

    oracle: bool

    def detect(self, pictures: Sequence[Picture], phrases: Sequence[Sequence[str]],
               labels: Sequence[Mapping[str, Bool[np.ndarray, "h w"]] | None]) -> list[Detections]: ...


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
            candidates: all above the threshold, for all phrases, with masks.
            references: per phrase a crop of the thing from the base view, to find it again in another view; None for
                the base view itself or where it was not found.
        """
        ...


class Tracker(Protocol):
    """Masks of one view's things carried from picture to picture. One tracker object serves many episodes: all that it
    remembers is in the value that `start` returns and `step` passes on. `carries` is False if its masks say nothing about where a
    thing is now."""

    carries: bool

    def start(self, picture: Picture, masks: Bool[np.ndarray, "r h w"]) -> Any: ...

    def step(self, memory: Any, picture: Picture) -> tuple[Any, Bool[np.ndarray, "r h w"]]: ...

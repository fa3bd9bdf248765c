"""`kind: template`: a sentence made of detections, "a red cube 483 mm away, 121 mm left; a blue ball …".

What `object_centric` found is described if it ran before (`Percept.regions`), so the text is about what the instruction names.
Otherwise a detector of its own looks for everything in `vocabulary` and the best name for each thing is kept. Distances are from the
robot's base and need depth, intrinsics and the camera's pose; `positions: picture` needs none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field

from perception.captioning.places import in_the_base_frame, in_the_picture
from perception.grounding import DETECTORS
from perception.grounding.candidates import overlaps
from perception.grounding.nested import component
from perception.grounding.positions import Geometry
from perception.percept import Batch, Percept
from perception.regions import ROBOT
from perception.stages import Detections
from robot_io import UserError
from robot_io.registry import ComponentConfig

SAME = 0.5
"""Two detections whose masks overlap (IoU) by more are one thing."""
NOTHING = "nothing"


@dataclass(frozen=True)
class Thing:
    """Its name, its mask in the described view, and its place in the base frame if that is known."""

    name: str
    mask: Bool[np.ndarray, "h w"]
    position: Float[np.ndarray, " 3"] | None


class Template:
    """See the module's text."""

    class Config(ComponentConfig):
        kind: Literal["template"] = "template"
        detector: component(DETECTORS) = Field({"kind": "embedded"}, validate_default=True, description="finds the things, unless they are found")
        vocabulary: tuple[str, ...] | None = Field(None, description="what to look for; null: every colour and shape the detector was taught")
        threshold: float = Field(0.3, ge=0, lt=1, description="a detection must score more")
        positions: Literal["metric", "picture", "none"] = Field(
            "metric", description="distances from the robot, fields of the picture, or names alone")
        unit: Literal["mm", "cm"] = "cm"
        at_most: int = Field(2, ge=1, description="things that are told of, what the instruction names first; of more only their number")

    def __init__(self, config: Config) -> None:
        self.config = config
        self.needs_depth = config.positions == "metric"
        self._detector: Any = None
        self.oracle = config.detector.kind == "oracle"

    def describe(self, batch: Batch, percept: Percept, camera: str) -> list[str]:
        view = batch.cameras.index(camera)
        geometry = Geometry(batch, percept) if self.needs_depth else None
        found = self._grounded(percept, view, geometry) if percept.regions is not None else self._detected(batch, camera, geometry)
        return [self.sentence(things) for things in found]

    def sentence(self, things: list[Thing]) -> str:
        """`a red cube 48 cm away, 12 cm left; a blue ball …`."""
        if not things:
            return NOTHING
        named = [f"a {thing.name} {self._place(thing)}".strip() for thing in things[: self.config.at_most]]
        left = len(things) - len(named)
        return "; ".join([*named, *([f"{left} more"] if left else [])])

    def _place(self, thing: Thing) -> str:
        if self.config.positions == "metric" and thing.position is not None:
            return in_the_base_frame(thing.position, self.config.unit)
        return "" if self.config.positions == "none" or not thing.mask.any() else in_the_picture(thing.mask)

    def _grounded(self, percept: Percept, view: int, geometry: Geometry | None) -> list[list[Thing]]:
        """What the instruction names, in the order of its roles; where this view misses a thing, from one that sees it."""
        regions = percept.regions
        masks = regions.masks.cpu().numpy()  # [B, V, R, H, W]
        views = [view, *(v for v in range(masks.shape[1]) if v != view)]
        found = []
        for b, phrases in enumerate(regions.phrases):
            things = []
            for r, (role, phrase) in enumerate(zip(regions.roles, phrases, strict=True)):
                seeing = [v for v in views if masks[b, v, r].any()]
                if role != ROBOT and phrase and seeing:
                    places = [position for v in seeing if (position := _place_of(geometry, b, v, masks[b, v, r])) is not None]
                    things.append(Thing(phrase, masks[b, view, r], places[0] if places else None))
            found.append(things)
        return found

    def _detected(self, batch: Batch, camera: str, geometry: Geometry | None) -> list[list[Thing]]:
        """Everything there is: what the instruction names first, then from left to right in the picture."""
        pictures = batch.rgb[camera].cpu().numpy()
        phrases = self._vocabulary()
        asked = [phrases] * len(pictures)
        detector = self.detector
        detections = detector.detect(pictures, asked, batch.labels[camera]) if self.oracle else detector.detect(pictures, asked)
        view, found = batch.cameras.index(camera), []
        for b, (mine, picture) in enumerate(zip(detections, pictures, strict=True)):
            mine = _distinct(mine.keep(mine.scores > self.config.threshold), picture.shape[:2])
            asked_for = [set(phrases[p].split()) <= set(batch.instructions[b].lower().split()) for p in mine.phrase]
            order = sorted(range(len(mine)), key=lambda i, asked=asked_for, mine=mine: (not asked[i], mine.boxes[i, 0] + mine.boxes[i, 2]))
            found.append([Thing(phrases[mine.phrase[i]], mine.masks[i], _place_of(geometry, b, view, mine.masks[i])) for i in order])
        return found

    @property
    def detector(self) -> Any:
        """Built when it is first needed: behind `object_centric` it never is."""
        if self._detector is None:
            self._detector = DETECTORS.load(self.config.detector.kind)(self.config.detector)
        return self._detector

    def _vocabulary(self) -> list[str]:
        if self.config.vocabulary is not None:
            return list(self.config.vocabulary)
        colors, shapes = (getattr(self.detector, words, None) for words in ("colors", "shapes"))
        if colors is None or shapes is None:
            raise UserError("captioner template", f"detector '{self.config.detector.kind}' has no vocabulary of its own", "what to look for",
                            "name it: vocabulary=[red cube, blue ball]")
        return [f"{color} {shape}" for color, shape in product(colors, shapes)]


def _place_of(geometry: Geometry | None, b: int, view: int, mask: np.ndarray) -> np.ndarray | None:
    positions = None if geometry is None else geometry.positions(b, view, mask[None])
    return positions[0] if positions is not None and np.isfinite(positions[0]).all() else None


def _distinct(detections: Detections, size: tuple[int, int]) -> Detections:
    """One detection for each thing, the best named; boxes stand in for masks where a detector gives none."""
    if detections.masks is None:
        detections = detections.with_masks(_filled(detections.boxes, size))
    detections = detections.keep(np.argsort(-detections.scores, kind="stable"))
    same = overlaps(detections.masks, detections.masks) > SAME
    kept: list[int] = []
    for i in range(len(detections)):
        if not same[i, kept].any():
            kept.append(i)
    return detections.keep(np.array(kept, np.int64))


def _filled(boxes: Float[np.ndarray, "n 4"], size: tuple[int, int]) -> Bool[np.ndarray, "n h w"]:
    masks = np.zeros((len(boxes), *size), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.round().astype(int), strict=True):
        mask[max(y0, 0):y1, max(x0, 0):x1] = True
    return masks

"""Which of several is meant, by where it is: "the cube on the left", "the nearest one", "the cup behind the bowl".

Relations are judged in the base view, as its camera sees them: left is left in the picture; nearer to the viewer is lower in it,
which holds for a camera that looks down on a table. How far two things are apart is measured in metres where positions are
known, else in the picture; the robot is where its base is, or where its arm enters the picture. In other views, where left is
elsewhere, the thing is found again by how it looks. Where the instruction names no relation, another selector decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from perception.grounding import SELECTORS
from perception.grounding.candidates import crop_box, likeness
from perception.grounding.nested import component
from perception.grounding.score import surest
from perception.phrases import BEHIND, FARTHEST, FRONT, LEFT, MIDDLE, NEAREST, RIGHT, Relation, parse
from perception.stages import Detections, Picture
from robot_io.registry import ComponentConfig

ROBOT = ("robot", "robot arm", "arm")


class ByRelation:
    """See the module's text."""

    class Config(ComponentConfig):
        kind: Literal["relation"] = "relation"
        otherwise: component(SELECTORS) = Field({"kind": "score"}, validate_default=True, description="decides where no relation is named")
        share: float = Field(0.5, ge=0, le=1, description="candidates must score at least this share of the best one's score")

    def __init__(self, config: Config) -> None:
        self.config = config
        self.otherwise = SELECTORS.load(config.otherwise.kind)(config.otherwise)

    def select(self, picture: Picture, candidates: Detections, phrases: Sequence[str], instruction: str,
               references: Sequence[Picture | None]) -> list[int | None]:
        goal = parse(instruction)
        if goal.relation is None or goal.target not in phrases:
            return self.otherwise.select(picture, candidates, phrases, instruction, references)
        target = list(phrases).index(goal.target)
        rivals = np.flatnonzero(candidates.phrase == target)
        rivals = rivals[candidates.scores[rivals] >= self.config.share * candidates.scores[rivals].max(initial=0)]
        landmark = None
        if goal.relation.landmark in phrases:
            landmark = surest(candidates, list(phrases).index(goal.relation.landmark))
        chosen = self.otherwise.select(picture, candidates, phrases, instruction, references)
        if (reference := references[target]) is not None:
            alike = [likeness(reference, crop_box(picture, candidates.boxes[i])) for i in rivals]
            chosen[target] = int(rivals[np.argmax(alike)]) if alike else None
        else:
            chosen[target] = standing(goal.relation, candidates, rivals, landmark)
        return chosen


def standing(relation: Relation, candidates: Detections, rivals: np.ndarray, landmark: int | None) -> int | None:
    """The rival that stands in `relation` in this picture; None if there is none, or no landmark that it could be judged by.

    Args:
        rivals: indices of candidates. The landmark is never one of them.
    """
    rivals = rivals if landmark is None else rivals[rivals != landmark]
    if not len(rivals) or (relation.landmark and landmark is None):
        return None
    x, y = centres(candidates).T  # pixels, y down
    if landmark is None:
        middle = np.median(x[rivals])
        worth = {LEFT: -x, RIGHT: x, MIDDLE: -np.abs(x - middle), NEAREST: y, FARTHEST: -y}[relation.name]
        return int(rivals[worth[rivals].argmax()])
    if relation.name in (LEFT, RIGHT, FRONT, BEHIND):
        across, down = x - x[landmark], y - y[landmark]
        towards, aside = {LEFT: (-across, down), RIGHT: (across, down), FRONT: (down, across), BEHIND: (-down, across)}[relation.name]
        rivals = rivals[(towards[rivals] > 0) & (towards[rivals] >= np.abs(aside[rivals]))]  # within 45° of the direction
    if not len(rivals):
        return None
    apart = distances(candidates, landmark, robot=relation.landmark in ROBOT)[rivals]
    return int(rivals[apart.argmax() if relation.name == FARTHEST else apart.argmin()])


def distances(candidates: Detections, landmark: int, robot: bool) -> np.ndarray:
    """How far every candidate is from the landmark, `float [N]`: over the table in metres, or in pixels."""
    places = candidates.positions
    if places is not None and np.isfinite(places).all():
        origin = np.zeros(2) if robot else places[landmark, :2]
        return np.linalg.norm(places[:, :2] - origin, axis=1)
    origin = centres(candidates)[landmark]
    if robot and candidates.masks is not None:
        rows, columns = np.nonzero(candidates.masks[landmark])
        height, width = candidates.masks.shape[1:]
        if (edge := (rows == 0) | (columns == 0) | (rows == height - 1) | (columns == width - 1)).any():
            origin = np.array([columns[edge].mean(), rows[edge].mean()])
    return np.linalg.norm(centres(candidates) - origin, axis=1)


def centres(candidates: Detections) -> np.ndarray:
    """Middle of every box, `float [N, 2]` as x, y."""
    return (candidates.boxes[:, :2] + candidates.boxes[:, 2:]) / 2

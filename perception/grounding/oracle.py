"""The oracle reads the simulator's masks. It is an UPPER BOUND, labelled so wherever it appears, and cannot be served.

It tells what perfect perception would give, so that what is lost to grounding and what is lost to the policy can be told apart.
The robot must say where things are (`CameraFrame.labels`): the tabletop does with `robot.oracle=true`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool

from perception.grounding.candidates import boxes_of
from perception.stages import Detections, Picture
from robot_io import UserError
from robot_io.registry import ComponentConfig

NO_OBJECTS = ("robot", "bowl")


class Oracle:
    """See the module's text. A phrase answers to every thing whose name has all its words: "cube" to "red cube" and "blue cube";
    "object" to all but the robot and bowls."""

    oracle: ClassVar[bool] = True

    class Config(ComponentConfig):
        kind: Literal["oracle"] = "oracle"

    def __init__(self, config: Config) -> None:
        self.config = config

    def detect(self, pictures: Sequence[Picture], phrases: Sequence[Sequence[str]],
               labels: Sequence[Mapping[str, Bool[np.ndarray, "h w"]] | None]) -> list[Detections]:
        """
        Raises:
            UserError: a picture without labels.
        """
        return [_answers(picture, names, truth) for picture, names, truth in zip(pictures, phrases, labels, strict=True)]


def _answers(picture: Picture, phrases: Sequence[str], truth: Mapping[str, np.ndarray] | None) -> Detections:
    if truth is None:
        raise UserError("detector oracle", "the observation does not say where things are", "a simulator that tells it",
                        "run it in the simulator with robot.oracle=true; on a robot use another detector")
    found = [(index, mask) for index, phrase in enumerate(phrases) for name, mask in truth.items()
             if mask.any() and (set(phrase.split()) <= set(name.split()) or (phrase == "object" and name.split()[-1] not in NO_OBJECTS))]
    masks = np.array([mask for _, mask in found], bool).reshape(len(found), *picture.shape[:2])
    return Detections(boxes_of(masks), np.ones(len(found), np.float32), np.array([index for index, _ in found], np.int64), masks)

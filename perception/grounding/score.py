"""The plainest selector: for each phrase the candidate that the detector is surest of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from perception.stages import Detections, Picture
from robot_io.registry import ComponentConfig


class BestScore:
    """See the module's text. Looks at neither picture nor references."""

    class Config(ComponentConfig):
        kind: Literal["score"] = "score"

    def __init__(self, config: Config) -> None:
        self.config = config

    def select(self, picture: Picture, candidates: Detections, phrases: Sequence[str], instruction: str,
               references: Sequence[Picture | None]) -> list[int | None]:
        return [surest(candidates, phrase) for phrase in range(len(phrases))]


def surest(candidates: Detections, phrase: int) -> int | None:
    """The index of the best candidate for a phrase, None if there is none."""
    mine = np.flatnonzero(candidates.phrase == phrase)
    return int(mine[candidates.scores[mine].argmax()]) if len(mine) else None

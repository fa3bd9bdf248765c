"""No tracker: masks stand still between groundings. For `ground_every: 1`, where nothing has to be carried."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool

from perception.stages import Picture
from robot_io.registry import ComponentConfig


class Still:
    """See the module's text."""

    carries: ClassVar[bool] = False

    class Config(ComponentConfig):
        kind: Literal["none"] = "none"

    def __init__(self, config: Config) -> None:
        self.config = config

    def start(self, picture: Picture, masks: Bool[np.ndarray, "r h w"]) -> np.ndarray:
        return masks

    def step(self, memory: np.ndarray, picture: Picture) -> tuple[np.ndarray, Bool[np.ndarray, "r h w"]]:
        return memory, memory

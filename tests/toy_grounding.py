"""Front-ends for tests of what comes after grounding: one that finds coloured dots, one that talks."""

from __future__ import annotations

import numpy as np
import torch

from perception.percept import Batch, FrontEnd, Percept
from perception.regions import CONTAINER, TARGET, Regions
from perception.stages import Detections
from robot_io.registry import ComponentConfig


class Dots(FrontEnd):
    """The target is what is red, the container what is blue; nothing is left to choose."""

    class Config(ComponentConfig):
        kind: str = "toy_grounding:Dots"

    def __init__(self, config: Config) -> None:
        super().__init__()

    def forward(self, observations: Batch, percept: Percept) -> Percept:
        red, _, blue = percept.images.unbind(2)
        masks = torch.stack([(red > 0.5) & (blue < 0.3), (blue > 0.5) & (red < 0.3)], 2)
        scores = masks.flatten(3).any(-1).float() * 0.75
        phrases = [("red dot", "blue dot")] * len(observations)
        candidates = [[self._candidates(view) for view in row] for row in masks]
        if observations.memory is not None:
            for memory in observations.memory:
                memory["looks"] = memory.get("looks", 0) + 1
        regions = Regions(masks, scores, (TARGET, CONTAINER), phrases)
        return percept.replace(regions=regions, abstain=~regions.of(TARGET).flatten(1).any(1),
                               evidence={**percept.evidence, "dots/candidates": candidates})

    def _candidates(self, masks: torch.Tensor) -> Detections:
        boxes = [(float(c.min()), float(r.min()), float(c.max()) + 1, float(r.max()) + 1)
                 for r, c in (mask.nonzero(as_tuple=True) for mask in masks) if len(r)]
        count = len(boxes)
        return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.full(count, 0.75, np.float32), np.arange(count))


class Says(FrontEnd):
    """Adds a sentence."""

    class Config(ComponentConfig):
        kind: str = "toy_grounding:Says"

    def __init__(self, config: Config) -> None:
        super().__init__()

    def forward(self, observations: Batch, percept: Percept) -> Percept:
        return percept.replace(text=["two dots on a plane"] * len(observations))

"""A front-end for tests that need one with depth."""

from __future__ import annotations

import torch

from perception.percept import Batch, FrontEnd, Percept
from robot_io.registry import ComponentConfig


class Nearness(FrontEnd):
    """Adds each picture's mean depth as a token `[B, V, 1]`."""

    class Config(ComponentConfig):
        kind: str = "nearness"

    needs_depth = True
    token_dim = 1

    def __init__(self, config: Config) -> None:
        super().__init__()

    def forward(self, observations: Batch, percept: Percept) -> Percept:
        tokens = torch.stack([depth.mean((1, 2)) for depth in observations.depth.values()], 1)[..., None]
        return percept.replace(tokens=tokens, token_mask=torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))


class Doubter(FrontEnd):
    """Abstains when the first pixel is dark, counts its looks in the episode's memory, and brightens the pictures."""

    class Config(ComponentConfig):
        kind: str = "doubter"

    abstains = True

    def __init__(self, config: Config) -> None:
        super().__init__()

    def forward(self, observations: Batch, percept: Percept) -> Percept:
        for memory in observations.memory or []:
            memory["looks"] = memory.get("looks", 0) + 1
        dark = percept.images[:, 0, :, 0, 0].sum(1) == 0
        return percept.replace(images=(percept.images + 0.25).clamp(max=1), abstain=dark)

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


class Mapper(FrontEnd):
    """Frozen, for a `Weigher`: hands on the mean colour of every picture, and hides the pictures if told to."""

    class Config(ComponentConfig):
        kind: str = "mapper"
        hide: bool = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.hides_pictures = config.hide

    def forward(self, observations: Batch, percept: Percept) -> Percept:
        maps = {"colour": percept.images.mean((-1, -2))}
        return percept.replace(images=None if self.hides_pictures else percept.images, maps=maps)


class Weigher(FrontEnd):
    """Trained: what a `Mapper` made, as a token per view."""

    class Config(ComponentConfig):
        kind: str = "weigher"
        width: int = 2

    frozen, after_cache = False, True

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.token_dim = config.width
        self.weigh = torch.nn.Linear(3, config.width)

    def forward(self, observations: Batch, percept: Percept) -> Percept:
        tokens = self.weigh(percept.maps["colour"])
        return percept.add_tokens(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))


class Brightness(FrontEnd):
    """Adds each picture's mean colour as a token `[B, V, 3]`; needs nothing."""

    class Config(ComponentConfig):
        kind: str = "toy_front_end:Brightness"

    token_dim = 3

    def __init__(self, config: Config) -> None:
        super().__init__()

    def forward(self, observations: Batch, percept: Percept) -> Percept:
        tokens = percept.images.mean((3, 4))
        return percept.add_tokens(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device))

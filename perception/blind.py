"""No pictures: the policy acts on its state, its instruction and whatever else is perceived before it.

For tasks whose state tells everything, and as the baseline that shows whether a policy looks at all: one that does as well blind has learnt
its demonstrations by heart.
"""

from __future__ import annotations

from typing import Literal

from perception.percept import Batch, FrontEnd, Percept
from robot_io.registry import ComponentConfig


class Blind(FrontEnd):
    """Leave the pictures out; tokens and text stay."""

    hides_pictures = True

    class Config(ComponentConfig):
        kind: Literal["blind"] = "blind"

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, observations: Batch, percept: Percept) -> Percept:
        return percept.replace(images=None)

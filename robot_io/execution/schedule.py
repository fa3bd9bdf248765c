"""The contract of a schedule, and the action that keeps a robot where it is when no schedule has one for it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from jaxtyping import Float32

from robot_io.specs import RobotSpec
from robot_io.types import Underway


class Schedule(Protocol):
    """Which action of which chunk is carried out when. Time is the number of actions carried out: while there is none the robot stands
    still, and what a chunk says about the next step stays true.

    Attributes:
        needs_prefix: the policy must be told what is underway when it is asked.
    """

    needs_prefix: bool

    def reset(self) -> None: ...

    def due(self) -> bool:
        """Whether to ask for a chunk, if none is on its way."""
        ...

    def ask(self, delay: int) -> Underway | None:
        """A chunk is asked for, on what is seen now. Returns what will be carried out meanwhile, the answer being expected `delay`
        steps from now; None if that does not matter."""
        ...

    def accept(self, actions: Float32[np.ndarray, "t a"]) -> None:
        """The chunk that was asked for last is here."""
        ...

    def action(self) -> Float32[np.ndarray, " a"] | None:
        """What to do now, to be called once per control step; None if no chunk says."""
        ...


def hold(spec: RobotSpec, state: Float32[np.ndarray, " s"], last: Float32[np.ndarray, " a"] | None) -> Float32[np.ndarray, " a"]:
    """The action that keeps the robot where it is, the gripper as it was last told to be.

    Args:
        state: as measured; read only if nothing has been commanded yet.
        last: the action carried out last: its absolute targets are repeated.
    """
    if last is None:
        return spec.hold(state)
    absolute = np.array([mode == "absolute" for mode in spec.action.modes])
    return np.where(absolute, last, 0).astype(np.float32)

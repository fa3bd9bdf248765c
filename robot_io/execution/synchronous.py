"""Synchronous execution: ask, wait, carry out `execute` actions, ask again. The robot stands still while it waits."""

from __future__ import annotations

from collections import deque

import numpy as np
from jaxtyping import Float32

from robot_io.errors import UserError


class Synchronous:
    """A chunk begins when it arrives: the robot has not moved since it was asked for.

    Args:
        execute: actions of each chunk that are carried out; None is all of them.
    """

    needs_prefix = False

    def __init__(self, execute: int | None = None) -> None:
        self._execute = execute
        self.reset()

    def reset(self) -> None:
        self._queue: deque[np.ndarray] = deque()

    def due(self) -> bool:
        return not self._queue

    def ask(self, delay: int) -> None:
        return None

    def accept(self, actions: Float32[np.ndarray, "t a"]) -> None:
        check_execute(self._execute, actions)
        self._queue = deque(actions[: self._execute])

    def action(self) -> Float32[np.ndarray, " a"] | None:
        return self._queue.popleft() if self._queue else None


def check_execute(execute: int | None, actions: Float32[np.ndarray, "t a"]) -> None:
    if execute is not None and execute > len(actions):
        raise UserError("execute", f"{execute} steps", f"at most {len(actions)}, the steps the policy predicts",
                        "lower execute or train with a longer horizon")

"""Naive asynchronous execution: ask while the running chunk goes on, and change over to the new chunk as soon as it is there.

The new chunk was made from what was seen d steps ago, so its first d actions are skipped: they are the past. Nothing makes the two
chunks agree on what they are doing, so the change may be a jump (Black et al., arXiv 2506.07339, section 3). Without latency this is synchronous
execution.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from robot_io.execution.synchronous import check_execute
from robot_io.types import Underway


class Asynchronous:
    """A chunk begins when it was asked for.

    Args:
        execute: steps after which the next chunk is asked for; None asks when the running one ends.
    """

    needs_prefix = False

    def __init__(self, execute: int | None = None) -> None:
        self._execute = execute
        self.reset()

    def reset(self) -> None:
        self._now = self._asked = self._start = 0
        self._chunk = np.empty((0, 0), np.float32)

    def due(self) -> bool:
        return not len(self.rest()) or self._now - self._start >= (self._execute or len(self._chunk))

    def ask(self, delay: int) -> Underway | None:
        self._asked = self._now
        return None

    def accept(self, actions: Float32[np.ndarray, "t a"]) -> None:
        check_execute(self._execute, actions)
        self._chunk, self._start = actions, self._asked

    def action(self) -> Float32[np.ndarray, " a"] | None:
        rest = self.rest()
        if not len(rest):
            return None
        self._now += 1
        return rest[0]

    def rest(self) -> Float32[np.ndarray, "p a"]:
        """The actions of the running chunk that have not been carried out."""
        return self._chunk[self._now - self._start :]

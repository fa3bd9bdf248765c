"""Real-time chunking (Black, Galliker and Levine, arXiv 2506.07339): asynchronous, and the new chunk goes on from the running one.

The policy is told the rest of the running chunk and how much of it will have been carried out when the answer arrives; its head
freezes that part and is guided to stay near the rest. How long an answer takes is not known beforehand: as in the paper's algorithm 1
the longest of the last few delays is assumed.
"""

from __future__ import annotations

from collections import deque

from robot_io.execution.asynchronous import Asynchronous
from robot_io.types import Underway


class RealTimeChunking(Asynchronous):
    """Changes over as `Asynchronous` does, but between chunks that agree."""

    needs_prefix = True

    def ask(self, delay: int) -> Underway | None:
        super().ask(delay)
        rest = self.rest()
        return Underway(rest, min(delay, len(rest))) if len(rest) else None


class DelayEstimate:
    """The longest of the last delays, in control steps.

    Args:
        first: assumed before anything was measured.
        memory: how many delays are remembered.
    """

    def __init__(self, first: int = 0, memory: int = 10) -> None:
        self._first, self._seen = first, deque(maxlen=memory)

    def add(self, delay: int) -> None:
        self._seen.append(delay)

    @property
    def steps(self) -> int:
        return max(self._seen, default=self._first)

"""How much a server takes on: sizes, connections, waiting requests, a connection's pace, and how it batches."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from robot_io.wire import MAX_BYTES


@dataclass(frozen=True)
class Limits:
    """What one server accepts.

    Attributes:
        max_bytes: the largest message; a longer one ends its connection.
        max_connections: clients at a time; the next is turned away with HTTP 503.
        max_waiting: requests that wait for a copy of the policy, of all its connections together; the next is answered with an error.
        max_rate: requests a second of one connection; a faster one is slowed down, not refused.
        max_batch: requests of different robots that are computed together.
        batch_wait: seconds that a request waits for those of other robots that have lately asked; a robot alone never waits.
        drain: seconds that a server which is asked to stop goes on for the requests it has.
    """

    max_bytes: int = MAX_BYTES
    max_connections: int = 256
    max_waiting: int = 64
    max_rate: float = 1000.0
    max_batch: int = 8
    batch_wait: float = 0.005
    drain: float = 10.0


class Pace:
    """Lets a connection through `rate` times a second, with one second's worth in hand (a token bucket)."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._saved, self._since = rate, time.monotonic()

    async def keep(self) -> None:
        """Return when the next request may be taken."""
        now = time.monotonic()
        self._saved = min(self.rate, self._saved + self.rate * (now - self._since)) - 1
        self._since = now
        if self._saved < 0:
            await asyncio.sleep(-self._saved / self.rate)

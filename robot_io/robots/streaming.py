"""From a few targets a second to the hundreds of set points a second that an arm's servo mode wants, on a thread of its own.

Between targets the set point moves evenly, for one control period; when no new target comes it stays where it is: silence is a stop, not
a drift. Between runs the thread goes on idling, so that a controller's watchdog hears from it. One that fails says so at the next `go`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from jaxtyping import Float

Path = Callable[[float], Float[np.ndarray, " n"]]
"""Set point as a function of the share of the period that has gone by, 0 … 1."""


class Streaming:
    """Calls `send(set_point)`, or `send(None)` while there is nothing to follow, in a loop until `close`.

    Args:
        send: sends one set point, or only a sign of life, and waits for the servo's own period.
        period: seconds that a target takes.
    """

    def __init__(self, send: Callable[[Float[np.ndarray, " n"] | None], None], period: float) -> None:
        self._send, self._period = send, period
        self._sending = threading.Lock()
        self._path: tuple[Path, float] | None = None
        self._closing = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="streaming")
        self._thread.start()

    def go(self, path: Path) -> None:
        """Follow `path` from now on. Raises what went wrong since the last time."""
        if self._error is not None:
            raise self._error
        self._path = path, time.monotonic()

    def point(self) -> Float[np.ndarray, " n"] | None:
        """Where the set point is now; None if there is nothing to follow."""
        if (following := self._path) is None:
            return None
        path, since = following
        return path(min(1.0, (time.monotonic() - since) / self._period))

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Follow nothing any more; while the block runs nothing is sent at all."""
        self._path = None
        with self._sending:
            yield

    def close(self) -> None:
        self._path = None
        self._closing.set()
        self._thread.join(2.0)

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                with self._sending:
                    self._send(self.point())
                time.sleep(0)  # let a waiting `stopped` in: locks are not fair
        except Exception as error:
            self._error = error

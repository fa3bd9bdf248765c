"""From a few targets a second to the hundreds of set points a second that an arm's servo mode wants, on a thread of its own.

Between targets the set point moves evenly, for one control period; when no new target comes it stays where it is: silence is a stop, not
a drift. A thread that fails says so at the next `go`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Path = Callable[[float], Float[np.ndarray, " n"]]
"""Set point as a function of the share of the period that has gone by, 0 … 1."""


class Streaming:
    """Calls `send(set_point)` in a loop, from the first `go` on.

    Args:
        send: sends one set point and waits for the servo's own period.
        period: seconds that a target takes.
    """

    def __init__(self, send: Callable[[Float[np.ndarray, " n"]], None], period: float) -> None:
        self._send, self._period = send, period
        self._lock = threading.Lock()
        self._path: tuple[Path, float] | None = None
        self._running = False
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None

    def go(self, path: Path) -> None:
        """Follow `path` from now on. Raises what went wrong since the last time."""
        if self._error is not None:
            raise self._error
        with self._lock:
            self._path = path, time.monotonic()
        if self._thread is None:
            self._running = True
            self._thread = threading.Thread(target=self._run, daemon=True, name="streaming")
            self._thread.start()

    def point(self) -> Float[np.ndarray, " n"] | None:
        """Where the set point is now; None before the first target."""
        with self._lock:
            if self._path is None:
                return None
            path, since = self._path
        return path(min(1.0, (time.monotonic() - since) / self._period))

    def stop(self) -> None:
        """Send no more, and forget the path."""
        self._running = False
        if self._thread is not None:
            self._thread.join(2.0)
        self._thread = self._path = None

    def _run(self) -> None:
        try:
            while self._running:
                self._send(self.point())
        except Exception as error:
            self._error = error

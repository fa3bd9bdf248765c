"""Holding the control rate: sleep until the next tick is due, count the ticks that were late, never try to catch up in a burst."""

from __future__ import annotations

import time


class Pace:
    """Ticks `rate_hz` times a second.

    Attributes:
        late: ticks that came more than a tenth of a period later than they should after the one before.
        worst: the longest time between two ticks, seconds.
    """

    def __init__(self, rate_hz: float) -> None:
        self.period = 1.0 / rate_hz
        self.late, self.worst = 0, 0.0
        self._next = self._last = None

    def wait(self) -> None:
        """Return when the next tick is due. The first is due at once."""
        now = time.monotonic()
        if self._next is not None and now < self._next:
            time.sleep(self._next - now)
            now = time.monotonic()
        if self._last is not None:
            self.worst = max(self.worst, now - self._last)
            self.late += now - self._last > 1.1 * self.period
        # After a long pause time goes on from here: the ticks that were missed are gone.
        due = now if self._next is None else max(self._next, now - self.period)
        self._next, self._last = due + self.period, now

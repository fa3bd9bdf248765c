"""The human's hand on the robot: pause it, take over, give it back, stop it. Thread-safe, so a keyboard, a pedal or a glove may hold it."""

from __future__ import annotations

import threading

import numpy as np
from jaxtyping import Float32


class Human:
    """What the human wants at the moment; the runner asks at every control step."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paused = self._stopped = False
        self._action: np.ndarray | None = None

    def pause(self) -> None:
        """The robot holds until `release`."""
        with self._lock:
            self._paused, self._action = True, None

    def take(self, action: Float32[np.ndarray, " a"]) -> None:
        """The robot does this, step after step, instead of what the policy says. It passes the safety layer all the same."""
        with self._lock:
            self._paused, self._action = False, np.asarray(action, np.float32)

    def release(self) -> None:
        """The policy goes on, from what it sees then."""
        with self._lock:
            self._paused, self._action = False, None

    def stop(self) -> None:
        """The run ends."""
        with self._lock:
            self._stopped = True

    @property
    def stopped(self) -> bool:
        return self._stopped

    @property
    def in_charge(self) -> bool:
        with self._lock:
            return self._paused or self._action is not None

    @property
    def action(self) -> Float32[np.ndarray, " a"] | None:
        """The human's action, None to hold. Means something while `in_charge`."""
        with self._lock:
            return self._action

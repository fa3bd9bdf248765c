"""Whether what the robot sees is still the present: a camera that has frozen delivers its last picture for ever.

A picture that does not change is no proof of that: the robot may be standing still in front of a still scene. It is one when the robot
has moved meanwhile.
"""

from __future__ import annotations

import zlib

import numpy as np

from robot_io.types import Observation


class Freshness:
    """Watches the cameras and the clock of successive observations.

    Args:
        pictures: unchanged pictures in a row, of one camera, that are too many while the robot moves.
        motion: how far the state must have moved meanwhile, in the unit of its entry that moved most.
    """

    def __init__(self, pictures: int = 5, motion: float = 0.03) -> None:
        self._pictures, self._motion = pictures, motion
        self._seen: dict[str, tuple[int, int, np.ndarray]] = {}  # digest, repetitions, state at the first of them

    def reset(self) -> None:
        self._seen = {}

    def stale(self, observation: Observation) -> str | None:
        """Names the cameras that have frozen, if any has."""
        frozen = []
        for name, frame in observation.cameras.items():
            digest = zlib.crc32(np.ascontiguousarray(frame.rgb))
            last, repeated, state = self._seen.get(name, (None, 0, observation.state))
            if digest != last:
                repeated, state = 0, observation.state
            self._seen[name] = digest, repeated + 1, state
            if repeated + 1 > self._pictures and np.abs(observation.state - state).max(initial=0.0) > self._motion:
                frozen.append(name)
        return ", ".join(frozen) or None

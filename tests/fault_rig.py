"""What the fault trials are made of: a robot that is watched, a policy that sees, a wire that fails. Used by `benchmarks/faults.py` and by the quick ones of its trials in `tests/vla/test_faults.py`.

The robot is a point on a plane (50 control steps a second, in real time) that has to go to the dot it is told to go to. The policy finds the
dot in the picture and walks there in a straight line, 0.02 a step. So it can be told from outside whether the robot was moved wrongly:
if it ever moved away from its dot, faster than 0.02, or by something that is not a number.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from toy_robot import COLOURS, SIZE, ToyRobot

from robot_io import ActionChunk, Observation

SPEED = 0.02
HORIZON, EXECUTE = 8, 4
SPEC = ToyRobot(rate_hz=50.0).spec


class WatchedRobot(ToyRobot):
    """Remembers where it was and what it was told.

    Attributes:
        frozen_at: control step from which its cameras show the last picture; None for never.
        refuses_at: control step from which it does not move any more (a protective stop).
    """

    def __init__(self, frozen_at: int | None = None, refuses_at: int | None = None) -> None:
        super().__init__(rate_hz=50.0, limit=2000)
        self.frozen_at, self.refuses_at = frozen_at, refuses_at
        self.told: list[np.ndarray] = []
        self.way: list[float] = []
        self.stopped = 0

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.told, self.way, self.stopped = [], [self._distance()], 0

    def observe(self) -> Observation:
        seen = super().observe()
        if self.frozen_at is None or self.steps < self.frozen_at:
            self._last_seen = seen.cameras
        return replace(seen, cameras=self._last_seen)

    def act(self, action: np.ndarray) -> None:
        if self.refuses_at is not None and self.steps >= self.refuses_at:
            raise OSError("protective stop")
        self.told.append(np.array(action))
        super().act(action)
        self.way.append(self._distance())

    def stop(self) -> None:
        self.stopped += 1

    @property
    def moved_wrongly(self) -> bool:
        told = np.array(self.told).reshape(-1, 2)
        return not (np.isfinite(told).all() and (np.abs(told) <= SPEED + 1e-6).all() and (np.diff(self.way) < 0.01).all())

    def _distance(self) -> float:
        return float(np.linalg.norm(self.position - self.dots[self.target]))


@dataclass(frozen=True)
class Recipe:
    name: str = "seer"
    hash: str = "seer"
    horizon: int = HORIZON
    execute: int = EXECUTE


class Seer:
    """Finds the dot in the front camera's picture.

    Args:
        trouble: called before the n-th answer; may wait, or return a chunk of its own.
    """

    def __init__(self, trouble: Callable[[int], np.ndarray | None] = lambda request: None) -> None:
        self.spec, self.recipe, self._trouble, self._requests = SPEC, Recipe(), trouble, 0

    def session(self) -> Seer:
        return self

    def reset(self, seed: int = 0) -> None:
        pass

    def infer(self, observation: Observation) -> ActionChunk:
        self._requests += 1
        actions = self._trouble(self._requests)
        return ActionChunk(self.straight(observation) if actions is None else actions, SPEC.action, observation.time)

    @staticmethod
    def straight(observation: Observation) -> np.ndarray:
        colour = next(colour for name, colour in COLOURS.items() if name in observation.instruction)
        rows, columns = np.nonzero((observation.cameras["front"].rgb == colour).all(-1))
        if not len(rows):  # the robot covers its dot: it is there
            return np.zeros((HORIZON, 2), np.float32)
        place, moves = observation.state.astype(float), []
        target = np.array([columns.mean(), rows.mean()]) / (SIZE - 1) * 2 - 1
        for _ in range(HORIZON):
            way = target - place
            move = way * min(1.0, SPEED / max(float(np.linalg.norm(way)), 1e-9))
            place = place + move
            moves.append(move)
        return np.array(moves, np.float32)


class Proxy:
    """A wire between client and server that delays and breaks. What TCP makes of lost and reordered packets is what it does: bytes come late, in
    order, or the connection is reset.

    Args:
        delay: seconds that each piece is held back, drawn from `low` to `high`.
        loss: chance that a piece waits for a retransmission timeout (0.3 s) on top.
        reset: chance per piece that the connection is reset.
    """

    def __init__(self, port: int, *, delay: tuple[float, float] = (0.0, 0.0), loss: float = 0.0, reset: float = 0.0, seed: int = 0) -> None:
        self._target, self._delay, self._loss, self._reset, self._random = port, delay, loss, reset, random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.pieces = self.resets = self.losses = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while piece := source.recv(16384):
                self.pieces += 1
                lost = self._random.random() < self._loss
                self.losses += lost
                time.sleep(self._random.uniform(*self._delay) + 0.3 * lost)
                if self._random.random() < self._reset:
                    self.resets += 1
                    for end in (source, sink):  # lingering for no time sends RST instead of FIN
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
                sink.sendall(piece)
        except OSError:
            pass
        for end in (source, sink):
            end.close()

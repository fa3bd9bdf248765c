"""A scripted expert for those of LIBERO's tasks that put things into or onto others, one after the other.

It reads where things truly are. A thing that fits between the fingers is taken across its narrower side, a wider one (a bowl, a plate) by its
rim; it is carried over whatever stands around and let go above its goal. A grasp that lifts nothing is tried again. Drawers, doors and
knobs it cannot do, and says so.

`noise` disturbs what is executed (a burst of random motion), not what is recorded; every action is computed from where the arm then is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robot_io.errors import UserError
from robot_io.rotations import matrix_of, vector_of
from robot_io.simulators.libero import RATE_HZ, STILL, Libero
from robot_io.types import ActionChunk, Observation

OPEN, CLOSED = -1.0, 1.0
WIDEST = 0.074  # metres between the open fingers, less a margin
CLEARANCE = 0.1  # above things while carrying
UP = np.array([0, 0, CLEARANCE])
DEPTH = 0.035  # how far below its top a thing is taken
FLOOR = 0.012  # and how far above its foot at least
STRETCH, TURN = 0.05, 0.5  # metres and radians of a full action
GAIN = 0.6  # of the way that is left, per step
GRIP_STEPS, TRIES = 12, 3
DOWN = np.diag([1.0, -1.0, -1.0])  # the tool's axes: it points down, fingers close along y
ACROSS = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])  # fingers close along x


class Expert:
    """Drives a `Libero`."""

    def __init__(self, robot: Libero, noise: float = 0.0) -> None:
        self.robot, self.noise = robot, noise
        self.reset()

    def reset(self, seed: int = 0) -> None:
        self._random = np.random.default_rng([seed, 1])
        self._actions: Iterator[np.ndarray] | None = None
        self._burst, self._left = np.zeros(3), 0

    def infer(self, observation: Observation | None = None) -> ActionChunk:
        """The clean action as a chunk of one; the observation is not looked at."""
        return ActionChunk(self.decide()[0][None], self.robot.spec.action, self.robot.steps / RATE_HZ)

    def decide(self) -> tuple[np.ndarray, np.ndarray]:
        if self._actions is None:
            self._actions = self._script()
        clean = np.clip(next(self._actions, STILL), -1, 1).astype(np.float32)
        if self._left == 0 and self._random.random() < self.noise:
            self._burst, self._left = self._random.uniform(-1, 1, 3), int(self._random.integers(3, 8))
        disturbed = clean.copy()
        if self._left:
            disturbed[:3] = np.clip(disturbed[:3] + self._burst, -1, 1)
            self._left -= 1
        return clean, disturbed

    def _script(self) -> Iterator[np.ndarray]:
        for goal in self.robot.goals():
            if len(goal) != 3 or goal[0] not in ("in", "on"):
                raise UserError(f"LIBERO's task '{self.robot.instruction}'", f"its goal is '{' '.join(goal)}'", "things to put in or on others",
                                "choose tasks with robot.tasks: the scripted expert opens and turns nothing")
            _, thing, place = goal
            for _ in range(TRIES):
                low, _ = self.robot.box(thing)
                yield from self._take(thing)
                if self.robot.box(thing)[0, 2] > low[2] + CLEARANCE / 2:
                    break
            yield from self._put(thing, place)

    def _take(self, thing: str) -> Iterator[np.ndarray]:
        low, high = self.robot.box(thing)
        middle, (x, y, _) = (low + high) / 2, high - low
        rotation, point = DOWN, np.array([middle[0], middle[1], max(high[2] - DEPTH, low[2] + FLOOR)])
        if min(x, y) > WIDEST:
            point[1] = high[1] - 0.008  # the rim on the side of the fingers' axis
            point[2] = high[2] - 0.02
        elif y > WIDEST or x < y - 0.01:
            rotation = ACROSS
        above = np.array([*point[:2], high[2] + CLEARANCE])
        yield from self._go(above, rotation, OPEN, 0.01)
        yield from self._go(point, rotation, OPEN, 0.006)
        yield from self._grip(rotation, CLOSED)
        yield from self._go(above + UP / 2, rotation, CLOSED, 0.02)

    def _put(self, thing: str, place: str) -> Iterator[np.ndarray]:
        """Whatever hangs from the fingers: it is the thing's middle and foot that are brought over the goal, not the tool."""
        container = self.robot.container(place)
        (low, high), (_, wall) = self.robot.box(place), self.robot.box(container)
        goal, rotation = (low + high) / 2, self._rotation()
        inside = place != container and wall[2] > goal[2] + 0.02
        foot = (wall[2] if inside else high[2]) + 0.02
        for height, tolerance in ((CLEARANCE, 0.015), (0.0, 0.012)):
            low, high = self.robot.box(thing)
            hanging = self._tool() - [*(low + high)[:2] / 2, low[2]]
            target = np.array([*goal[:2], foot + height]) + hanging
            if height:
                yield from self._go(np.array([*self._tool()[:2], target[2]]), rotation, CLOSED, 0.03)
            yield from self._go(target, rotation, CLOSED, tolerance)
        yield from self._grip(rotation, OPEN)
        yield from self._go(self._tool() + UP, rotation, OPEN, 0.03)

    def _go(self, point: np.ndarray, rotation: np.ndarray, gripper: float, tolerance: float, limit: int = 60) -> Iterator[np.ndarray]:
        for _ in range(limit):
            way = point - self._tool()
            if np.linalg.norm(way) < tolerance and np.linalg.norm(self._turn(rotation)) < 0.1:
                return
            yield self._action(way, rotation, gripper)

    def _grip(self, rotation: np.ndarray, gripper: float) -> Iterator[np.ndarray]:
        point = self._tool()
        for _ in range(GRIP_STEPS):
            yield self._action(point - self._tool(), rotation, gripper)

    def _action(self, way: np.ndarray, rotation: np.ndarray, gripper: float) -> np.ndarray:
        """A step along `way`, slower if it is too long for one step, in its direction; and towards `rotation`."""
        move = way * GAIN / STRETCH
        return np.array([*move / max(1, np.abs(move).max()), *np.clip(self._turn(rotation) * GAIN / TURN, -1, 1), gripper])

    def _turn(self, rotation: np.ndarray) -> np.ndarray:
        return vector_of(rotation @ self._rotation().T)

    def _tool(self) -> np.ndarray:
        return self.robot.state()[:3].astype(float)

    def _rotation(self) -> np.ndarray:
        return matrix_of(self.robot.state()[3:6])

"""A planner for PushT: of many straight strokes against the T, tried on a second board, the one after which it lies best.

A stroke begins beside a point of the T's edge, pushes inward, more or less along the normal, and comes to rest. The next one is planned
from where the T then really lies. Lies best: the mean distance of the T's corners from where they should be.

`noise` disturbs what is executed (a burst of wrong targets), not what is recorded; a disturbed T is planned for anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from robot_io.simulators.pusht import BOARD, PushT, board
from robot_io.types import ActionChunk, Observation

CANDIDATES, STEPS, REST = 128, 12, 3
RADIUS, GAP = 15.0, 9.0  # of the pusher; what it keeps from the T before a stroke
SLOWEST, FASTEST = 1.0, 18.0  # px a step, while pushing
WALK, AROUND = 40.0, 102.0  # px a step otherwise; how far from the T's middle it walks around it
WALL = 22.0


@dataclass(frozen=True)
class Stroke:
    """From `start` along `move` a step, `steps` times; `cost` is what the T's place costs then, in pixels."""

    start: Float[np.ndarray, " 2"]
    move: Float[np.ndarray, " 2"]
    steps: int
    cost: float


class Expert:
    """Drives a `PushT`; reads the true place of the T."""

    def __init__(self, robot: PushT, noise: float = 0.0, candidates: int = CANDIDATES) -> None:
        self.robot, self.noise, self.candidates = robot, noise, candidates
        self.twin = board(32)
        self.twin.reset(seed=0)
        self.reset()

    def reset(self, seed: int = 0) -> None:
        self._random = np.random.default_rng([seed, 1])
        self._targets: Iterator[np.ndarray] = iter(())
        self._burst, self._left = np.zeros(2), 0

    def infer(self, observation: Observation | None = None) -> ActionChunk:
        """The clean action as a chunk of one; the observation is not looked at."""
        return ActionChunk(self.decide()[0][None], self.robot.spec.action, self.robot.steps / self.robot.spec.action.rate_hz)

    def decide(self) -> tuple[np.ndarray, np.ndarray]:
        target = next(self._targets, None)
        if target is None:
            self._targets = self._carry_out(self.plan())
            target = next(self._targets)
        if self._left == 0 and self._random.random() < self.noise:
            self._burst, self._left = self._random.normal(0, 25, 2), 3
        clean = np.clip(target, 0, BOARD).astype(np.float32)
        if not self._left:
            return clean, clean
        self._left -= 1
        if not self._left:
            self._targets = iter(())
        return clean, np.clip(clean + self._burst, 0, BOARD).astype(np.float32)

    def plan(self) -> Stroke:
        """The best of `candidates` random strokes."""
        environment = self.robot.environment
        before = _misplaced(environment)
        strokes = [self._try(*self._draw(environment, np.clip(before / 5, 2 * SLOWEST, FASTEST))) for _ in range(self.candidates)]
        here = np.array(environment.agent.position)
        improving = [stroke for stroke in strokes if stroke.cost < before]
        return min(improving or strokes, key=lambda stroke: stroke.cost + 0.01 * np.linalg.norm(stroke.start - here))

    def _draw(self, environment: Any, fastest: float) -> tuple[np.ndarray, np.ndarray]:
        """A start beside the T's edge, and the move of one step into it: gentler, the nearer the T is to where it should be."""
        while True:
            shape = environment._block_shapes[int(self._random.integers(2))]  # not `block.shapes`: a set has no order to rely on
            corners = np.array([environment.block.local_to_world(corner) for corner in shape.get_vertices()])
            i = int(self._random.integers(len(corners)))
            a, b = corners[i], corners[(i + 1) % len(corners)]
            contact = a + self._random.uniform(0.05, 0.95) * (b - a)
            normal = np.array([b[1] - a[1], a[0] - b[0]]) / np.linalg.norm(b - a)
            if normal @ (contact - corners.mean(0)) < 0:
                normal = -normal
            start = contact + (RADIUS + GAP) * normal
            if (start > WALL).all() and (start < BOARD - WALL).all() and not _touches(environment, start):
                turn = self._random.normal(0, 0.35)
                inward = -np.array([np.cos(turn) * normal[0] - np.sin(turn) * normal[1], np.sin(turn) * normal[0] + np.cos(turn) * normal[1]])
                return start, inward * self._random.uniform(SLOWEST, fastest)

    def _try(self, start: np.ndarray, move: np.ndarray) -> Stroke:
        """Carry it out on the twin, for a random while."""
        twin, block = self.twin, self.robot.environment.block
        twin.agent.position, twin.agent.velocity = tuple(start), (0, 0)
        twin.block.position, twin.block.angle = tuple(block.position), block.angle
        twin.block.velocity, twin.block.angular_velocity = (0, 0), 0
        twin.space.reindex_shapes_for_body(twin.agent)
        twin.space.reindex_shapes_for_body(twin.block)
        steps = int(self._random.integers(1, STEPS + 1))
        for step in [*range(1, steps + 1), *[steps] * REST]:
            _move(twin, start + step * move)
        return Stroke(start, move, steps, _misplaced(twin))

    def _carry_out(self, stroke: Stroke) -> Iterator[np.ndarray]:
        """Targets, one a step: around the T to the start, rest there, the stroke, rest."""
        environment = self.robot.environment
        middle = np.array(environment.block.local_to_world(environment.block.center_of_gravity))
        place = np.array(environment.agent.position)
        for waypoint in _around(place, stroke.start, middle):
            while np.linalg.norm(waypoint - place) > 1:
                place = place + (waypoint - place) * min(1, WALK / np.linalg.norm(waypoint - place))
                yield place
        for step in [*[0] * REST, *range(1, stroke.steps + 1), *[stroke.steps] * REST]:
            yield stroke.start + step * stroke.move


def _around(here: np.ndarray, there: np.ndarray, middle: np.ndarray) -> list[np.ndarray]:
    """Waypoints on a circle about the T, the shorter way round, where the straight way would pass close to it."""
    way = there - here
    share = np.clip((middle - here) @ way / max(way @ way, 1e-6), 0, 1)
    if np.linalg.norm(here + share * way - middle) > AROUND:
        return [there]
    first, last = (np.arctan2(*(point - middle)[::-1]) for point in (here, there))
    turn = (last - first + np.pi) % (2 * np.pi) - np.pi
    angles = first + np.linspace(0, turn, 2 + int(abs(turn) / 0.5))
    ring = middle + AROUND * np.stack([np.cos(angles), np.sin(angles)], 1)
    return [*np.clip(ring, WALL, BOARD - WALL), there]


def _move(environment: Any, target: np.ndarray) -> None:
    """One control step as the package does it, without the picture and the areas that its `step` computes."""
    for _ in range(round(1 / (environment.dt * environment.control_hz))):
        pull = environment.k_p * (target - np.array(environment.agent.position)) - environment.k_v * np.array(environment.agent.velocity)
        environment.agent.velocity = tuple(np.array(environment.agent.velocity) + pull * environment.dt)
        environment.space.step(environment.dt)


def _touches(environment: Any, place: np.ndarray) -> bool:
    """Whether a pusher there would touch the T."""
    return any(shape.point_query(tuple(place)).distance < RADIUS + 2 for shape in environment._block_shapes)


def _misplaced(environment: Any) -> float:
    """Mean distance of the T's corners from where they should be, pixels."""
    goal = environment.get_goal_pose_body(environment.goal_pose)
    apart = [np.subtract(environment.block.local_to_world(corner), goal.local_to_world(corner))
             for shape in environment._block_shapes for corner in shape.get_vertices()]
    return float(np.linalg.norm(apart, axis=1).mean())

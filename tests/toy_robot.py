"""A robot small enough for any test: a point on a plane that has to reach the dot it is told to reach.

Two 32×32 px cameras draw the red dot, the blue dot and the point (white); the second one sees the scene from behind.
The state is the point's position `float32 [2]` in [-1, 1]; an action is a move `float32 [2]` of at most 0.15 an axis.
The robot fulfils `robot_io.robot.Simulator`. `Expert` solves it; `Drunk` moves at random, from torch-free seeded noise.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from robot_io import ActionChunk, ActionSpec, CameraFrame, CameraSpec, Observation, ObservationSpec, RobotSpec
from robot_io.registry import ComponentConfig
from robot_io.robot import Outcome

SIZE = 32
REACH = 0.15
COLOURS = {"red": (220, 40, 40), "blue": (40, 80, 220)}


class ToyRobot:
    """Reach the named dot within `limit` steps; the other dot is the wrong object."""

    class Config(ComponentConfig):
        kind: Literal["toy_robot:ToyRobot"] = "toy_robot:ToyRobot"
        limit: int = Field(40, ge=1, description="control steps in an episode")
        rate_hz: float = Field(10.0, gt=0)
        crash_on: int = Field(-1, description="the seed whose reset kills the process, for tests of that")

    expert = "toy_robot:Expert"

    def __init__(self, config: Config | None = None, **options: object) -> None:
        self.config = config or self.Config(**options)
        self.renders = 0
        self.spec = RobotSpec(
            robot="toy",
            observation=ObservationSpec(
                cameras=(CameraSpec("front", SIZE, SIZE), CameraSpec("wrist", SIZE, SIZE)),
                state=("x", "y"), state_units=("m", "m"),
            ),
            action=ActionSpec(names=("x", "y"), units=("m", "m"), low=(-REACH, -REACH), high=(REACH, REACH),
                              modes=("delta", "delta"), rate_hz=self.config.rate_hz),
        )

    def reset(self, seed: int) -> None:
        if seed == self.config.crash_on:
            import os

            os._exit(11)
        random = np.random.default_rng(seed)
        self.position = random.uniform(-0.2, 0.2, 2)
        angle = random.uniform(0, 2 * np.pi)
        self.dots = {name: 0.8 * np.array([np.cos(a), np.sin(a)])
                     for name, a in (("red", angle), ("blue", angle + random.uniform(1.5, 4.5)))}
        self.target = str(random.choice(["red", "blue"]))
        self.instruction = f"go to the {self.target} dot"
        self.steps = 0
        self.wrong = False

    def observe(self) -> Observation:
        self.renders += 1
        return Observation(
            cameras={"front": CameraFrame(self._draw(1)), "wrist": CameraFrame(self._draw(-1))},
            state=self.position.astype(np.float32), instruction=self.instruction, time=self.steps / self.config.rate_hz,
        )

    def act(self, action: np.ndarray) -> None:
        self.position = np.clip(self.position + np.clip(action, -REACH, REACH), -1, 1)
        self.steps += 1
        self.wrong |= any(self._near(name) for name in self.dots if name != self.target)

    def outcome(self) -> Outcome:
        success = self._near(self.target)
        return Outcome(success or self.steps >= self.config.limit, success, self.wrong, self.steps)

    def close(self) -> None:
        pass

    def _near(self, name: str) -> bool:
        return bool(np.linalg.norm(self.position - self.dots[name]) < 0.12)

    def _draw(self, side: int) -> np.ndarray:
        picture = np.full((SIZE, SIZE, 3), 30, np.uint8)
        for place, colour in [*((self.dots[n], c) for n, c in COLOURS.items()), (self.position, (255, 255, 255))]:
            column, row = ((side * place + 1) / 2 * (SIZE - 1)).round().astype(int)
            picture[max(row - 2, 0):row + 3, max(column - 2, 0):column + 3] = colour
        return picture


class Expert:
    """Walks straight to the target, eight steps a chunk."""

    def __init__(self, robot: ToyRobot, noise: float = 0.0) -> None:
        self.robot, self.noise = robot, noise

    def reset(self, seed: int = 0) -> None:
        self.seed = seed
        self.random = np.random.default_rng(seed)

    def decide(self) -> tuple[np.ndarray, np.ndarray]:
        move = np.clip(self.robot.dots[self.robot.target] - self.robot.position, -REACH, REACH).astype(np.float32)
        stumble = self.random.uniform(-1, 1, 2) * (self.random.random() < self.noise)
        return move, (move + stumble).astype(np.float32)

    def infer(self, observation: Observation) -> ActionChunk:
        place, moves = observation.state.astype(float), []
        for _ in range(8):
            move = np.clip(self.robot.dots[self.robot.target] - place, -REACH, REACH)
            place = place + move
            moves.append(move)
        return ActionChunk(np.array(moves, np.float32), self.robot.spec.action, observation.time)


class Drunk(Expert):
    """Moves at random, the same way in every run of the same seed; sometimes reaches a dot."""

    def infer(self, observation: Observation) -> ActionChunk:
        random = np.random.default_rng([self.seed, round(observation.time * 1000)])
        heading = random.uniform(-REACH, REACH, 2)
        moves = heading + random.normal(0, 0.03, (8, 2))
        return ActionChunk(moves.astype(np.float32), self.robot.spec.action, observation.time)

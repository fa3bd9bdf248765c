"""A policy to serve in tests: its actions are a fixed function of all it is shown, so a lost or altered byte shows."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from robot_io import ActionChunk, ActionSpec, CameraFrame, CameraSpec, Observation, ObservationSpec, RobotSpec

SPEC = RobotSpec(
    robot="scripted",
    observation=ObservationSpec(
        cameras=(CameraSpec("front", 12, 16, depth=True), CameraSpec("wrist", 8, 8)),
        state=("x", "y", "grip"),
        state_units=("m", "m", "1"),
    ),
    action=ActionSpec(
        names=("x", "y"), units=("m", "m"), low=(-1.0, -1.0), high=(1.0, 1.0), modes=("delta", "delta"), rate_hz=10.0
    ),
)


@dataclass(frozen=True)
class Recipe:
    name: str = "scripted"
    hash: str = "0123abcd"
    horizon: int = 4
    execute: int = 2


class ScriptedPolicy:
    """Clear `go` to make it think until `go` is set; `thinking` says that it does."""

    def __init__(self) -> None:
        self.spec, self.recipe = SPEC, Recipe()
        self.resets: list[int] = []
        self.thinking, self.go = threading.Event(), threading.Event()
        self.go.set()

    def session(self) -> ScriptedPolicy:
        return self

    def infer(self, observation: Observation) -> ActionChunk:
        if observation.instruction == "crash":
            raise ZeroDivisionError("secret of the house")
        self.thinking.set()
        self.go.wait(20)
        front, wrist = observation.cameras["front"], observation.cameras["wrist"]
        seen = [
            front.rgb.mean(),
            front.depth.mean(),
            wrist.rgb.mean(),
            observation.state.sum(),
            len(observation.instruction),
        ]
        seen += [0.0 if m is None else m.sum() for m in (front.intrinsics, front.world_from_camera, wrist.intrinsics)]
        actions = np.sin(np.outer(np.arange(1, 5), [np.dot(seen, np.arange(1, 9)), np.sum(seen)]))
        return ActionChunk(actions.astype(np.float32), self.spec.action, observation.time)

    def reset(self, seed: int = 0) -> None:
        self.resets.append(seed)


def an_observation(seed: int = 0, instruction: str = "pick up the red cube") -> Observation:
    random = np.random.default_rng(seed)
    return Observation(
        cameras={
            "front": CameraFrame(
                random.integers(0, 256, (12, 16, 3), np.uint8),
                random.random((12, 16), np.float32),
                random.random((3, 3), np.float32),
                random.random((4, 4), np.float32),
            ),
            "wrist": CameraFrame(random.integers(0, 256, (8, 8, 3), np.uint8)),
            "unused": CameraFrame(random.integers(0, 256, (8, 8, 3), np.uint8)),
        },
        state=random.random(3, np.float32),
        instruction=instruction,
        time=1.5 + seed,
    )

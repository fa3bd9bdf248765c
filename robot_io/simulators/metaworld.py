"""Meta-World (Yu et al., arXiv 1910.10897; McLean et al., arXiv 2505.11289): fifty Sawyer tasks with scripted experts, by name and in words.

One robot may hold several tasks: a seed then picks the task as well as the scene, so that one policy learns all of them from their instructions
(the package has none; these sentences are ours). The goal is visible where the task shows it (Meta-World's "MT" setting).

    cameras   `front` (Meta-World's corner2, turned the right way up) and `wrist` (gripperPOV), RGB and depth
    state     float32 [4]: hand x, y, z in metres, gripper opening 0 … 1
    action    float32 [4] at 80 Hz: hand displacement in centimetres, at most 1 each; gripper -1 opens, 1 closes

Shadows and multisampling are off, which is what makes drawing quick on a CPU; published numbers for pictures were made with them on.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from robot_io.errors import UserError, nearest
from robot_io.registry import ComponentConfig
from robot_io.robot import Outcome
from robot_io.simulators.metaworld_tasks import INSTRUCTIONS
from robot_io.specs import ActionSpec, CameraSpec, ObservationSpec, RobotSpec
from robot_io.types import ActionChunk, CameraFrame, Observation

CAMERAS = {"front": "corner2", "wrist": "gripperPOV"}
UPSIDE_DOWN = ("corner2",)
RATE_HZ = 80.0
STATE = ("hand_x", "hand_y", "hand_z", "gripper_opening")


class MetaWorld:
    """See the module's text. Fulfils `robot_io.robot.Simulator`."""

    class Config(ComponentConfig):
        kind: Literal["metaworld"] = "metaworld"
        tasks: tuple[str, ...] = Field(("reach",), min_length=1, description="of the fifty, without `-v3`; a seed picks one")
        image_size: int = Field(96, ge=32, le=480, description="side of both pictures, pixels")
        max_steps: int = Field(300, ge=1, le=500, description="control steps in an episode; Meta-World's own limit is 500")
        cameras: tuple[Literal["front", "wrist"], ...] = ("front", "wrist")

        @field_validator("tasks")
        @classmethod
        def _known(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
            for task in tasks:
                if task not in INSTRUCTIONS:
                    raise UserError(f"metaworld task '{task}'", "not known", "one of the fifty, without -v3", nearest(task, INSTRUCTIONS))
            return tasks

    expert = "robot_io.simulators.metaworld:Expert"

    def __init__(self, config: Config | None = None, **options: Any) -> None:
        self.config = config or self.Config(**options)
        self._environments: dict[str, Any] = {}
        self._eyes: dict[str, Any] = {}
        size = self.config.image_size
        self.spec = RobotSpec(
            robot="metaworld_sawyer",
            observation=ObservationSpec(tuple(CameraSpec(name, size, size, depth=True) for name in self.config.cameras), STATE,
                                        ("m", "m", "m", "share")),
            action=ActionSpec(names=("hand_x", "hand_y", "hand_z", "gripper"), units=("cm", "cm", "cm", "share"), low=(-1.0,) * 4,
                              high=(1.0,) * 4, modes=("delta", "delta", "delta", "absolute"), rate_hz=RATE_HZ, gripper=3,
                              gripper_open=-1.0, gripper_closed=1.0),
        )

    def reset(self, seed: int) -> None:
        self.task = self.config.tasks[seed % len(self.config.tasks)]
        self.environment = self._environments.get(self.task) or self._make(self.task)
        self.environment._freeze_rand_vec = False  # the package's own way of drawing a new scene
        self.environment.seed(seed // len(self.config.tasks))
        self.measured, _ = self.environment.reset()
        self.environment._freeze_rand_vec = True
        self.steps, self.success = 0, False

    def observe(self) -> Observation:
        return Observation(cameras={name: self._frame(CAMERAS[name]) for name in self.config.cameras}, state=self.state(),
                           instruction=INSTRUCTIONS[self.task], time=self.steps / RATE_HZ)

    def state(self) -> np.ndarray:
        return self.measured[:4].astype(np.float32)

    def act(self, action: np.ndarray) -> None:
        self.measured, _, _, _, info = self.environment.step(np.clip(action, -1, 1).astype(np.float32))
        self.steps += 1
        self.success |= bool(info["success"])

    def outcome(self) -> Outcome:
        """Success is Meta-World's own, at any time in the episode, as its benchmark counts it."""
        return Outcome(self.success or self.steps >= self.config.max_steps, self.success, False, self.steps)

    def close(self) -> None:
        for eyes in self._eyes.values():
            eyes.close()

    def _make(self, task: str) -> Any:
        os.environ.setdefault("MUJOCO_GL", "egl" if sys.platform == "linux" else "glfw")
        try:
            from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE as ENVIRONMENTS
        except ImportError:
            raise UserError("robot 'metaworld'", "the package metaworld is not installed", "metaworld 3.1",
                            "run: pip install 'swapvla[metaworld]'") from None
        environment = ENVIRONMENTS[f"{task}-v3-goal-observable"](seed=0)
        environment.model.vis.quality.shadowsize = environment.model.vis.quality.offsamples = 0
        environment.seeded_rand_vec = True  # else scenes come from numpy's global generator, whatever the seed
        self._environments[task] = environment
        return environment

    def _frame(self, camera: str) -> CameraFrame:
        from robot_io.tabletop.cameras import Cameras

        if self.task not in self._eyes:
            self._eyes[self.task] = Cameras(self.environment.model, self.config.image_size)
        frame = self._eyes[self.task].frame(self.environment.data, camera)
        if camera not in UPSIDE_DOWN:
            return frame
        turned = frame.world_from_camera @ np.diag([-1, -1, 1, 1]).astype(np.float32)
        return CameraFrame(rgb=np.ascontiguousarray(frame.rgb[::-1, ::-1]), depth=np.ascontiguousarray(frame.depth[::-1, ::-1]),
                           intrinsics=frame.intrinsics, world_from_camera=turned)


class Expert:
    """The package's scripted policies. `noise` is the chance per step that a burst of random motion begins."""

    def __init__(self, robot: MetaWorld, noise: float = 0.0) -> None:
        from metaworld.policies import ENV_POLICY_MAP

        self.robot, self.noise, self._policies = robot, noise, ENV_POLICY_MAP
        self._made: dict[str, Any] = {}
        self.reset()

    def reset(self, seed: int = 0) -> None:
        self._random = np.random.default_rng([seed, 1])
        self._burst, self._left = np.zeros(3), 0

    def infer(self, observation: Observation | None = None) -> ActionChunk:
        """The clean action as a chunk of one; the observation is not looked at."""
        return ActionChunk(self.decide()[0][None], self.robot.spec.action, self.robot.steps / RATE_HZ)

    def decide(self) -> tuple[np.ndarray, np.ndarray]:
        task = self.robot.task
        if task not in self._made:
            self._made[task] = self._policies[f"{task}-v3"]()
        clean = np.clip(self._made[task].get_action(self.robot.measured), -1, 1).astype(np.float32)
        if self._left == 0 and self._random.random() < self.noise:
            self._burst, self._left = self._random.uniform(-1, 1, 3), int(self._random.integers(3, 9))
        disturbed = clean.copy()
        if self._left:
            disturbed[:3] = np.clip(disturbed[:3] + self._burst, -1, 1)
            self._left -= 1
        return clean, disturbed

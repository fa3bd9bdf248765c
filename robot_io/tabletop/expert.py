"""A scripted expert whose action depends on what can be seen now, and on nothing else.

No clock and no phases: the lateral distance to the object decides the height to be at (a funnel), the height decides whether
to close, and contact decides whether to lift. So one frame tells an imitator what to do, and a disturbed run recovers by
itself. With `noise`, bursts of random motion are added to what is executed but not to what is recorded, so that the
demonstrations show recoveries (DART; Laskey et al., 2017).
"""

from __future__ import annotations

import numpy as np

from robot_io.tabletop.kinematics import rotation_vector, tool_down
from robot_io.tabletop.robot import TabletopRobot
from robot_io.types import ActionChunk, Observation

GAIN = 0.35  # of the remaining way, per step
SPEED = 0.012  # m a step
ABOVE, FUNNEL = 0.09, 0.012  # height of the approach, and the lateral error that is small enough to go down
LOWEST = 0.0225  # of the tool, so that the closing fingers stay off the table
CARRY, RELEASE = 0.16, 0.085  # heights of the tool on the way to a bowl and over it


class Expert:
    """Drives a `TabletopRobot` through its task; holds still where what is asked for is absent.

    Args:
        robot: the robot, of which it reads the true object positions.
        noise: chance per step that a burst of random motion begins; 0 for none.
        speed: of the tool, m a step.
    """

    def __init__(self, robot: TabletopRobot, noise: float = 0.0, speed: float = SPEED) -> None:
        self.robot, self.noise, self.speed = robot, noise, speed
        self.reset()

    def reset(self, seed: int = 0) -> None:
        """Begin an episode; the noise in it follows from `seed`."""
        self._rng = np.random.default_rng([seed, 1])
        self._burst, self._left = np.zeros(6), 0

    def infer(self, observation: Observation | None = None) -> ActionChunk:
        """The clean action as a chunk of one; the observation is not looked at."""
        label, _ = self.decide()
        return ActionChunk(label[None], self.robot.spec.action, float(self.robot.data.time))

    def decide(self) -> tuple[np.ndarray, np.ndarray]:
        """What should be done (to record) and what to do now (perhaps disturbed), each `float32 [7]`."""
        clean = self._clean()
        disturbed = clean.copy()
        disturbed[:6] += self._disturbance()
        return self._in_action_space(clean), self._in_action_space(disturbed)

    def _clean(self) -> np.ndarray:
        """The expert's `ee_delta` action."""
        robot = self.robot
        if robot.layout.target is None:
            return np.array([0, 0, 0, 0, 0, 0, 1.0])
        position, rotation = robot.tool()
        held = robot.grasped() == robot.layout.target
        target = robot.object_state()[robot.layout.target]
        if held and robot.layout.bowl is None:
            goal, gripper = np.array([*position[:2], position[2] + self.speed / GAIN]), 0.0
        elif held:
            goal, gripper = self._carry(position, robot.bowl_position())
        else:
            goal, gripper = self._approach(position, target.position)
        move = GAIN * (goal - position)
        move *= min(1.0, self.speed / max(np.linalg.norm(move), 1e-9))
        turn = GAIN * rotation_vector(tool_down() @ rotation.T)
        return np.concatenate([move, turn, [gripper]])

    def _approach(self, position: np.ndarray, thing: np.ndarray) -> tuple[np.ndarray, float]:
        grasp = np.array([*thing[:2], max(thing[2], LOWEST)])
        lateral = np.linalg.norm(position[:2] - grasp[:2])
        height = ABOVE * np.clip((lateral - FUNNEL) / 0.04, 0, 1)
        reached = lateral < FUNNEL and position[2] - grasp[2] < 0.008
        return np.array([*grasp[:2], grasp[2] + height]), 0.0 if reached else 1.0

    def _carry(self, position: np.ndarray, bowl: np.ndarray) -> tuple[np.ndarray, float]:
        lateral = np.linalg.norm(position[:2] - bowl[:2])
        far = np.clip((lateral - 0.02) / 0.06, 0, 1)
        goal = np.array([*bowl[:2], RELEASE + (CARRY - RELEASE) * far])
        clear = np.clip((position[2] - 0.05) / 0.05, 0, 1)  # up first, then across
        goal[:2] = position[:2] + (goal[:2] - position[:2]) * clear
        return goal, 1.0 if lateral < 0.02 and position[2] < RELEASE + 0.015 else 0.0

    def _disturbance(self) -> np.ndarray:
        if self._left == 0 and self._rng.random() < self.noise:
            self._left = int(self._rng.integers(2, 6))
            self._burst = np.concatenate([self._rng.uniform(-0.022, 0.022, 3), self._rng.uniform(-0.06, 0.06, 3)])
        if self._left == 0:
            return np.zeros(6)
        self._left -= 1
        return self._burst

    def _in_action_space(self, action: np.ndarray) -> np.ndarray:
        spec = self.robot.spec.action
        if self.robot.config.action_space == "joint":
            joints, _ = self.robot.kinematics.inverse(self.robot.joints(), *self.robot.target_after(action), iterations=8)
            action = np.concatenate([joints, action[6:]])
        return np.clip(action, spec.low, spec.high).astype(np.float32)

"""Demonstrators as people are: now brisk, now slow, now standing still, now with an unsteady hand; and one who misses.

What they do is what is recorded. `vla collect … --policy benchmarks.uneven:Uneven` keeps their failures, too.
"""

from __future__ import annotations

import numpy as np

from robot_io import ActionChunk, Observation
from robot_io.tabletop.expert import FUNNEL, SPEED, Expert
from robot_io.tabletop.robot import TabletopRobot

SKILLS = (0.1, 0.4, 0.8)
"""Share of an episode's bouts that are brisk; one of these for each episode."""
WEAKNESSES = ("slow", "still", "shaky")
SLOW, SHAKY = 0.35, 0.2  # share of the full speed; chance per step of a burst of random motion
BOUT, CHECK = (6, 15), (8, 25)  # lengths in steps: of a bout, and of the look before the descent
MISS = (0.025, 0.04)  # m


class Uneven(Expert):
    """The scripted expert in bouts of 6 to 14 steps, brisk ones and weak ones. The less skilled look for a second or two before they
    close the fingers, as people do who steer a robot from afar."""

    def __init__(self, robot: TabletopRobot) -> None:
        super().__init__(robot)

    def reset(self, seed: int = 0) -> None:
        super().reset(seed)
        self._day = np.random.default_rng([seed, 7])
        self.skill = float(self._day.choice(SKILLS))
        self._bout, self._steps, self._above, self._checked, self._gripper = "brisk", 0, False, False, 1.0

    def infer(self, observation: Observation | None = None) -> ActionChunk:
        self._choose_bout()
        self.speed = SPEED * (SLOW if self._bout == "slow" else 1.0)
        self.noise = SHAKY if self._bout == "shaky" else 0.0
        _, done = self.decide()
        if self._bout == "still":
            done[:6], done[6] = 0.0, self._gripper
        self._gripper = done[6]
        return ActionChunk(done[None], self.robot.spec.action, float(self.robot.data.time))

    def _choose_bout(self) -> None:
        """The next one, where the last is over."""
        if self._above and not self._checked:
            self._checked = True
            if self._day.random() > self.skill:
                self._bout, self._steps = "still", int(self._day.integers(*CHECK))
        if self._steps == 0:
            self._bout = "brisk" if self._day.random() < self.skill else str(self._day.choice(WEAKNESSES))
            self._steps = int(self._day.integers(*BOUT))
        self._steps -= 1

    def _approach(self, position: np.ndarray, thing: np.ndarray) -> tuple[np.ndarray, float]:
        self._above = bool(np.linalg.norm(position[:2] - thing[:2]) < FUNNEL)
        return super()._approach(position, thing)


class Clumsy(Uneven):
    """Reaches beside the object, and tries to lift what is not there: failures to learn from."""

    def reset(self, seed: int = 0) -> None:
        super().reset(seed)
        angle, far = self._day.uniform(-np.pi, np.pi), self._day.uniform(*MISS)
        self._beside = far * np.array([np.cos(angle), np.sin(angle), 0.0])

    def _approach(self, position: np.ndarray, thing: np.ndarray) -> tuple[np.ndarray, float]:
        return super()._approach(position, thing + self._beside)

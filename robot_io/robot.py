"""The robot contract: look, and act for one control step. Simulators also reset and judge.

A real robot, the tabletop simulator and a replayed data set are the same thing to whoever drives them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from robot_io.specs import RobotSpec
from robot_io.types import ActionChunk, Observation


@runtime_checkable
class Robot(Protocol):
    """Something with cameras that can be moved.

    `act` takes one action `float32 [A]` in the units of `spec.action` and returns when the next one is due, one period
    of `spec.action.rate_hz` later on the robot's own clock. Cameras are read (rendered) only by `observe`.
    """

    spec: RobotSpec

    def observe(self) -> Observation: ...

    def act(self, action: np.ndarray) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """How an episode stands.

    Attributes:
        done: nothing more can happen: success, or out of time.
        success: the instruction has been carried out.
        wrong_object: an object that was not asked for has been lifted.
        steps: control steps taken.
    """

    done: bool
    success: bool
    wrong_object: bool
    steps: int


@runtime_checkable
class Simulator(Robot, Protocol):
    """A robot that can start over and knows how it did. The same seed gives the same scene and instruction."""

    def reset(self, seed: int) -> None: ...

    def outcome(self) -> Outcome: ...


class Driver(Protocol):
    """Whatever decides what a robot does next: a policy in this process, a client of a served one, an expert.

    One that can go on from what the robot is doing meanwhile (real-time chunking) has a true attribute `takes_prefix`, and
    then it is called as `infer(observation, prefix=Underway(…))`; no other is ever given a prefix.
    """

    def infer(self, observation: Observation) -> ActionChunk: ...

    def reset(self, seed: int = 0) -> None:
        """A new episode begins. Whatever is random in it follows from `seed`."""
        ...


class Demonstrator(Driver, Protocol):
    """A scripted expert. A simulator that has one names its class in its attribute `expert: str` (`module:Class`), which is
    called with the robot and `noise`, the chance per step that a disturbance begins."""

    def decide(self) -> tuple[np.ndarray, np.ndarray]:
        """The action to record and the action to carry out (disturbed, to show recoveries), each `float32 [A]`."""
        ...

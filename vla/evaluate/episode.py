"""One closed-loop trial: look, predict a chunk, carry out its first `execute` actions, repeat.

The robot is looked at only when the next chunk is due, because looking is what costs (cameras render, pictures travel).
`horizon` steps are predicted, `execute` of them are carried out: the same two words everywhere in this project. How chunks
follow one another is a `robot_io.execution` schedule, the same object that drives a robot in real time; here a prediction takes `delay` control
steps of the robot's time, however long it takes of ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from robot_io import ActionSpec, Observation
from robot_io.execution import Schedule, hold, make_schedule, require_prefix
from robot_io.robot import Driver, Simulator

Observer = Callable[[Observation, np.ndarray], None]
"""`observer(observation, action)`, called at every control step with what the robot sees and is about to do."""


@dataclass(frozen=True)
class Trial:
    """How one episode went.

    Attributes:
        seed: fixes the scene, the instruction and the policy's own randomness.
        success: the instruction was carried out.
        wrong_object: an object that was not asked for was picked up, at any time.
        steps: control steps taken.
        seconds: duration on the robot's clock (steps / rate): the cycle time.
        wall_seconds: duration on ours.
        infer_ms: time of each prediction, milliseconds.
        jerk: see `jerk`; None where it is not defined.
        instruction: what was asked.
    """

    seed: int
    success: bool
    wrong_object: bool
    steps: int
    seconds: float
    wall_seconds: float
    infer_ms: tuple[float, ...]
    jerk: float | None
    instruction: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Trial:
        """Rebuild from JSON, ignoring keys that are not a trial's."""
        fields = {name: data[name] for name in cls.__dataclass_fields__}
        return cls(**{**fields, "infer_ms": tuple(fields["infer_ms"])})


def run_episode(robot: Simulator, driver: Driver, *, seed: int, execute: int | None = None, max_steps: int | None = None,
                observer: Observer | None = None, execution: str = "synchronous", delay: int = 0) -> Trial:
    """Run one trial until the robot says it is over.

    Args:
        execute: actions of each chunk that are carried out; None carries out all of them.
        max_steps: a limit below the robot's own.
        observer: if given, the robot is looked at in every control step (and rendered: slow).
        execution: how chunks follow one another, a name in `robot_io.execution.SCHEDULES`.
        delay: control steps that go by between a look and the chunk made from it.

    Raises:
        UserError: an execution or `execute` that does not go with this robot or driver.
    """
    began = time.perf_counter()
    schedule = make_schedule(execution, execute, robot.spec.action)
    asking = _Asking(driver, schedule, delay)
    robot.reset(seed)
    driver.reset(seed)
    done: list[np.ndarray] = []
    while not robot.outcome().done and len(done) < (max_steps or np.inf):
        step = len(done)
        seen = asking.attend(robot, step)
        action = schedule.action()
        if action is None:
            action = hold(robot.spec, asking.state, done[-1] if done else None)
        if observer is not None:
            observer(seen or robot.observe(), action)
        robot.act(action)
        done.append(action)
    outcome = robot.outcome()
    return Trial(
        seed=seed, success=bool(outcome.success), wrong_object=bool(outcome.wrong_object), steps=len(done),
        seconds=len(done) / robot.spec.action.rate_hz, wall_seconds=time.perf_counter() - began,
        infer_ms=tuple(asking.infer_ms), jerk=jerk(np.array(done, np.float32).reshape(-1, robot.spec.action.dim), robot.spec.action),
        instruction=asking.instruction,
    )


class _Asking:
    """Asks the driver when a schedule wants a chunk, and hands it over `delay` control steps later."""

    def __init__(self, driver: Driver, schedule: Schedule, delay: int) -> None:
        self._driver, self._schedule, self._delay = driver, schedule, delay
        require_prefix(driver, schedule)
        self._coming: tuple[int, np.ndarray] | None = None
        self.infer_ms: list[float] = []
        self.state, self.instruction = np.empty(0, np.float32), ""

    def attend(self, robot: Simulator, step: int) -> Observation | None:
        """Before each action. Returns what was seen, if it looked."""
        self._hand_over(step)
        if self._coming is not None or not self._schedule.due():
            return None
        observation = robot.observe()
        self.state, self.instruction = observation.state, observation.instruction
        underway = self._schedule.ask(self._delay)
        asked = time.perf_counter()
        chunk = self._driver.infer(observation) if underway is None else self._driver.infer(observation, prefix=underway)
        self.infer_ms.append(1e3 * (time.perf_counter() - asked))
        self._coming = step, chunk.actions
        self._hand_over(step)
        return observation

    def _hand_over(self, step: int) -> None:
        if self._coming is not None and step - self._coming[0] >= self._delay:
            self._schedule.accept(self._coming[1])
            self._coming = None


def jerk(actions: Float[np.ndarray, "t a"], spec: ActionSpec) -> float | None:
    """How abruptly the commanded motion changes: the root mean square of the second difference of the commanded
    velocity, each dimension in fractions of its range per step³. 0 is constant acceleration.

    The gripper does not count (it is meant to snap), nor do `relative` dimensions, whose zero moves with every chunk.
    None if nothing is left or the episode is too short.
    """
    kept = [i for i, mode in enumerate(spec.modes) if i != spec.gripper and mode != "relative"]
    order = {"delta": 2, "absolute": 3}
    differences = [
        np.diff(actions[:, i], n=order[spec.modes[i]]) / (spec.high[i] - spec.low[i]) for i in kept
        if len(actions) > order[spec.modes[i]] and spec.high[i] > spec.low[i]
    ]
    return float(np.sqrt(np.mean(np.square(np.concatenate(differences))))) if differences else None

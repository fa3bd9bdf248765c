"""One closed-loop trial: look, predict a chunk, carry out its first `execute` actions, repeat.

The robot is looked at only when the next chunk is due, because looking is what costs (cameras render, pictures travel).
`horizon` steps are predicted, `execute` of them are carried out: the same two words everywhere in this project.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from robot_io import ActionSpec, Observation, UserError
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
                observer: Observer | None = None) -> Trial:
    """Run one trial until the robot says it is over.

    Args:
        execute: actions of each chunk that are carried out; None carries out all of them.
        max_steps: a limit below the robot's own.
        observer: if given, the robot is looked at in every control step (and rendered: slow).
    """
    began = time.perf_counter()
    robot.reset(seed)
    driver.reset(seed)
    done: list[np.ndarray] = []
    infer_ms: list[float] = []
    instruction = ""
    while not robot.outcome().done and len(done) < (max_steps or np.inf):
        observation = robot.observe()
        instruction = observation.instruction
        asked = time.perf_counter()
        chunk = driver.infer(observation).actions
        infer_ms.append(1e3 * (time.perf_counter() - asked))
        if execute is not None and execute > len(chunk):
            raise UserError("execute", f"{execute} steps", f"at most {len(chunk)}, the steps the policy predicts",
                            "lower execute or train with a longer horizon")
        for step, action in enumerate(chunk[:execute]):
            if observer is not None:
                observer(observation if step == 0 else robot.observe(), action)
            robot.act(action)
            done.append(action)
            if robot.outcome().done or len(done) == max_steps:
                break
    outcome = robot.outcome()
    return Trial(
        seed=seed, success=bool(outcome.success), wrong_object=bool(outcome.wrong_object), steps=len(done),
        seconds=len(done) / robot.spec.action.rate_hz, wall_seconds=time.perf_counter() - began,
        infer_ms=tuple(infer_ms), jerk=jerk(np.array(done, np.float32).reshape(-1, robot.spec.action.dim), robot.spec.action),
        instruction=instruction,
    )


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

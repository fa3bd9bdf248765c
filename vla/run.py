"""Drive a robot with a policy, episode after episode: opens both, holds them against each other, and hands over to `robot_io.runner`.

    reports = run("runs/pick/policy", {"kind": "tabletop"}, episodes=3, log="runs/log")

A policy may be a folder (loaded in this process), a server's address or `module:Class` (see `vla.evaluate.drivers`). A simulator is reset
to the scenes `seed`, `seed + 1`, …; a real robot is as it is, and `before` is called so that a human may set the scene.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from robot_io import UserError
from robot_io.dataset import Recorder
from robot_io.errors import nearest
from robot_io.execution.human import Human
from robot_io.execution.log import Log
from robot_io.robot import Robot, Simulator
from robot_io.runner import Patience, Report, Runner
from robot_io.safety import Limits, Safety
from robot_io.specs import require_compatible
from vla.evaluate.drivers import find, make_robot, open_driver, preload


def run(policy: str | Path, robot: dict[str, Any], *, execution: str = "synchronous", execute: int | None = None, seconds: float = np.inf,
        episodes: int = 1, seed: int = 0, limits: Limits | None = None, log: Path | str | None = None, patience: Patience | None = None,
        human: Human | None = None, before: Callable[[int, Robot], None] = lambda episode, robot: None,
        after: Callable[[int, Report], None] = lambda episode, report: None) -> list[Report]:
    """Run episodes until they are done or a human stops one.

    Args:
        robot: `{"kind": …, **options}`.
        execute: steps of each chunk; None is what the policy says.
        seconds: longest duration of an episode.
        limits: further limits of what the robot may do.
        log: folder of a data set that every step is added to.
        before, after: called around each episode.

    Raises:
        UserError: a policy for another robot, an execution that it cannot follow, a log of another robot. Nothing has moved then.
    """
    source = find(policy)
    preload()
    body = make_robot(robot)
    try:
        if source.spec is not None:
            require_compatible(source.spec, body.spec, thing=f"policy '{policy}'")
        writer = None if log is None else Log(Recorder(log, body.spec))
        safety = Safety(body.spec, limits, getattr(body, "tool_after", None))
        driver, human = open_driver(source, body), human or Human()
        runner = Runner(body, driver, execution=execution, execute=execute or source.execute, safety=safety, patience=patience, log=writer,
                        human=human, judge=getattr(body, "judge", None))
        reports = []
        for episode in range(episodes):
            if isinstance(body, Simulator):
                body.reset(seed + episode)
            before(episode, body)
            if human.stopped:
                break
            reports.append(runner.run(seconds=seconds, seed=seed + episode))
            after(episode, reports[-1])
            if reports[-1].reason in ("human", "robot"):
                break
        if writer is not None:
            writer.finish()
        return reports
    finally:
        body.close()


def read_limits(path: Path) -> Limits:
    """Limits from a YAML file with the fields of `robot_io.safety.Limits`.

    Raises:
        UserError: it cannot be read, or has other fields.
    """
    try:
        data = yaml.safe_load(path.read_text()) or {}
        known = Limits.__dataclass_fields__
        if unknown := [name for name in data if name not in known]:
            raise UserError(f"limits {path}", f"'{unknown[0]}' is no limit", "fields of robot_io.safety.Limits", nearest(unknown[0], known))
        return Limits(**{name: _frozen(value) for name, value in data.items()})
    except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise UserError(f"limits {path}", f"cannot be read ({error})", "YAML: velocity, jerk, workspace, joints", "see docs/robot.md") from None


def _frozen(value: Any) -> Any:
    """Lists as tuples, all the way down."""
    if isinstance(value, dict):
        return {name: _frozen(inner) for name, inner in value.items()}
    return tuple(_frozen(inner) for inner in value) if isinstance(value, list) else value

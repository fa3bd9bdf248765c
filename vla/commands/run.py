"""`vla run`."""

from __future__ import annotations

import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from vla.commands.keys import Keys
from vla.commands.shared import Json, Overrides, tell

HARDWARE = ("ur", "lerobot", "ros2")


def run(
    policy: Annotated[str, typer.Argument(help="A policy folder, a ws:// address, or module:Class (called with the robot).")],
    overrides: Overrides = None,
    robot: Annotated[str, typer.Option(help="One of `vla list robots`, or module:Class.")] = "tabletop",
    execution: Annotated[str, typer.Option(help="How chunks follow one another: synchronous, asynchronous, ensembling or "
                                                "real_time.")] = "synchronous",
    execute: Annotated[int | None, typer.Option(min=1, help="Actions carried out per chunk; the policy's if left out.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="Longest duration of an episode.")] = None,
    episodes: Annotated[int, typer.Option(min=1)] = 1,
    seed: Annotated[int, typer.Option(min=0, help="First scene of a simulator; the policy's noise.")] = 20_000,
    log: Annotated[Path | None, typer.Option(help="Data set that every step is added to.")] = None,
    limits: Annotated[Path | None, typer.Option(help="YAML file with limits of speed, jerk, workspace and joints.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a real robot moves.")] = False,
    as_json: Json = False,
) -> None:
    """Drive a robot in real time. On a terminal: space pauses and continues, q (or Ctrl-C) stops.

    Examples:

    - `vla run runs/pick/policy --episodes 3` (the simulated tabletop, at its ten steps a second)

    - `vla run ws://gpu-box:8000 --robot ur robot.host=192.168.1.2 robot.cameras='{front: {kind: realsense}}' --limits cell.yaml --log data/runs`

    - `vla run runs/pick/policy --robot ur robot.host=simulated --execution real_time`

    - `vla run ws://127.0.0.1:8000 --robot replay robot.root=data/pick`
    """
    from robot_io.execution.human import Human
    from vla.run import read_limits
    from vla.run import run as go

    config = robot_config(robot, overrides)
    human = Human()
    signal.signal(signal.SIGINT, lambda *_: human.stop())
    moves = robot in HARDWARE and config.get("host") != "simulated"
    with Keys(human) as keys:
        def before(episode: int, body: object) -> None:
            if moves and not yes:
                keys.confirm(f"Episode {episode + 1}: the robot is going to move. Set the scene, then press Enter (q: stop): ")

        def after(episode: int, report: object) -> None:
            print(f"episode {episode + 1}: {told(report)}", file=sys.stderr, flush=True)

        reports = go(policy, config, execution=execution, execute=execute, seconds=np.inf if seconds is None else seconds, episodes=episodes,
                     seed=seed, limits=None if limits is None else read_limits(limits), log=log, human=human, before=before, after=after)
    judged = [report for report in reports if report.success is not None]
    found = {"episodes": [asdict(report) for report in reports], "successes": sum(bool(report.success) for report in judged)}
    tell(found, as_json, f"{len(reports)} episodes" + (f", {found['successes']} of {len(judged)} judged successful" if judged else ""))


def robot_config(kind: str, overrides: list[str] | None) -> dict[str, Any]:
    """A robot's configuration with `robot.key=value` applied."""
    from robot_io import UserError
    from vla.overrides import apply_overrides

    if strangers := [override for override in overrides or [] if not override.startswith("robot.")]:
        raise UserError(f"override '{strangers[0]}'", "does not begin with 'robot.'", "robot.key=value", "write robot.… here")
    return apply_overrides({"robot": {"kind": kind}}, overrides or [])["robot"]


def told(report: object) -> str:
    """One line about a run."""
    latency = f", answers {1e3 * np.median(report.latency):.0f} ms (worst {1e3 * np.max(report.latency):.0f})" if report.latency else ""
    faults = ", ".join(f"{name} × {count}" for name, count in report.faults.most_common())
    ending = {None: report.reason, True: f"{report.reason}, success", False: f"{report.reason}, no success"}[report.success]
    if report.reason in ("silence", "robot"):
        ending += f" ({report.detail})"
    logged = f"; {report.logged} frames logged" if report.logged else ""
    problem = f"; log: {report.log_problem}" if report.log_problem else ""
    return (f"{ending}; {report.steps} steps, {report.held} held, {report.late} late{latency}"
            + (f"; {faults}" if faults else "") + logged + problem)

"""Demonstrations of a simulator's scripted expert, or rollouts of a policy, recorded in parallel as one LeRobotDataset.

Workers run one seed each; this process writes the episodes in the order of their seeds. So the data set is the same
whatever the number of workers, and a collection that was killed goes on with the seed after the last one on disk. Seeds
on which the expert fails are left out; a policy's failures are kept, marked as what they are, for reinforcement learning has much to
learn from them. `meta/collection.json` says which seed made which episode.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from robot_io import ROBOTS, Observation, UserError
from robot_io.dataset import Recorder
from robot_io.registry import load_address
from robot_io.specs import require_compatible
from vla.evaluate.drivers import Source, find, make_robot, open_driver, preload
from vla.evaluate.episode import run_episode
from vla.files import write_json
from vla.workers import parallel

LOG = Path("meta/collection.json")
PATIENCE = 20
"""Failures in a row after which the expert is not to be trusted."""

Demonstration = tuple[list[tuple[Observation, np.ndarray]], bool]
"""(what was seen, what was right to do) per control step, and whether it ended in success."""


@dataclass(frozen=True)
class Collection:
    """How a data set was recorded. `seeds[i]` made episode i; `failed` were tried and left out.

    `policy` names who drove, if it was not the expert, and `policy_hash` which version of it.
    """

    robot: dict[str, Any]
    noise: float
    seed0: int
    seeds: list[int]
    failed: list[int]
    policy: str = ""
    policy_hash: str = ""


def collect(robot: dict[str, Any], root: Path | str, *, episodes: int, seed0: int = 0, noise: float = 0.0, workers: int = 1,
            progress: bool = True, policy: str | Path | None = None) -> Collection:
    """Record until `root` holds `episodes` episodes; what is there already counts.

    Args:
        robot: `{"kind": …, **options}`.
        seed0: the first seed tried.
        noise: chance per step that a disturbance of the expert begins; what is recorded stays undisturbed.
        policy: who drives instead of the expert (see `vla.evaluate.drivers`): every episode is kept.

    Raises:
        UserError: the robot has no expert, the policy is for another robot, or `root` holds something else.
    """
    root = Path(root)
    source = None if policy is None else find(policy)
    simulator = make_robot(robot)
    simulator.close()
    if source is not None and source.spec is not None:
        require_compatible(source.spec, simulator.spec, thing=f"policy '{policy}'")
    if source is None and not hasattr(simulator, "expert"):
        raise UserError(f"robot '{robot['kind']}'", "has no scripted expert", f"one of {', '.join(ROBOTS.kinds())} with one",
                        "record with robot_io.dataset.Recorder instead, e.g. while teleoperating")
    recorder = Recorder(root, simulator.spec)
    named = {} if source is None else {"policy": source.name, "policy_hash": source.hash}
    log = _resume(root, Collection(robot, noise, seed0, [], [], **named), recorder.episodes)
    with _bar(progress) as bar:
        task = bar.add_task("episodes", total=episodes, completed=recorder.episodes)
        if recorder.episodes < episodes:
            for seed, (steps, success) in _in_order(robot, noise, source, log, workers):
                if success or source is not None:
                    for observation, action in steps:
                        recorder.add(observation, action)
                    log.seeds.append(seed)
                    write_json(root / LOG, asdict(log))  # first, so that no episode on disk is without its seed
                    recorder.save_episode(success=success)
                    bar.update(task, completed=recorder.episodes)
                    if recorder.episodes >= episodes:
                        break
                else:
                    log.failed.append(seed)
                    _check_patience(log)
    recorder.finish()
    return log


def _in_order(robot: dict[str, Any], noise: float, source: Source | None, log: Collection,
              workers: int) -> Iterator[tuple[int, Demonstration]]:
    """Demonstrations by ascending seed, from the first seed that is not in `log`, without end."""
    start = max([log.seed0 - 1, *log.seeds, *log.failed]) + 1
    waiting: dict[int, Demonstration] = {}
    due = itertools.count(start)
    wanted = next(due)
    setup, arguments = (demonstrator, (robot, noise)) if source is None else (performer, (robot, source))
    for seed, demonstration in parallel(setup, arguments, itertools.count(start), workers=workers, noun="seed"):
        waiting[seed] = demonstration
        while wanted in waiting:
            yield wanted, waiting.pop(wanted)
            wanted = next(due)


def demonstrator(robot_config: dict[str, Any], noise: float) -> Callable[[int], Demonstration]:
    """Runs in a worker: one demonstration per seed."""
    robot = make_robot(robot_config)
    expert = load_address(robot.expert)(robot, noise=noise)

    def run(seed: int) -> Demonstration:
        robot.reset(seed)
        expert.reset(seed)
        steps = []
        while not robot.outcome().done:
            observation = robot.observe()
            right, carried_out = expert.decide()
            steps.append((observation, right))
            robot.act(carried_out)
        return steps, robot.outcome().success

    return run


def performer(robot_config: dict[str, Any], source: Source) -> Callable[[int], Demonstration]:
    """Runs in a worker: one rollout of a policy per seed, with the actions that were carried out."""
    preload()
    robot = make_robot(robot_config)
    driver = open_driver(source, robot)

    def run(seed: int) -> Demonstration:
        steps: list[tuple[Observation, np.ndarray]] = []
        trial = run_episode(robot, driver, seed=seed, execute=source.execute, max_steps=source.evaluation.max_steps,
                            observer=lambda observation, action: steps.append((observation, action)))
        return steps, trial.success

    return run


def _resume(root: Path, asked: Collection, on_disk: int) -> Collection:
    """The log of what is on disk; an empty one for a new folder."""
    if not (root / LOG).exists():
        if on_disk:
            raise UserError(f"folder {root}", "was not recorded by `vla collect`", "a new folder, or one to resume",
                            "collect into a new folder")
        return asked
    found = Collection(**json.loads((root / LOG).read_text()))
    for name in ("robot", "noise", "seed0", "policy_hash"):
        if getattr(found, name) != getattr(asked, name):
            raise UserError(f"folder {root}", f"was collected with {name} {getattr(found, name)!r}",
                            f"{getattr(asked, name)!r}, as asked now", "ask for the same, or collect into a new folder")
    seeds = found.seeds[:on_disk]
    failed = [seed for seed in found.failed if seeds and seed < seeds[-1]]
    return replace(found, seeds=seeds, failed=failed)


def _check_patience(log: Collection) -> None:
    last = max([log.seed0 - 1, *log.seeds])
    if sum(seed > last for seed in log.failed) >= PATIENCE:
        raise UserError("scripted expert", f"failed on {PATIENCE} seeds in a row, {log.failed[-PATIENCE:]}",
                        "mostly successes", "lower the noise, or check the task's options")


def _bar(shown: bool) -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                    console=Console(stderr=True), disable=not shown)

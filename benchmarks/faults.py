"""Fault trials: the runner, the client and the log while something goes wrong, with counts.

    python benchmarks/faults.py --trials 20

Each trial is a run in real time with a fault at a random moment. It must move the robot right or not at all, raise nothing, and leave a log
that holds every step that was carried out (or, where the disk is the fault, every step before it) beside an earlier episode that is untouched.
What a run should come to is told by each fault. Writes `docs/results/faults.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from fault_kinds import FAULTS, Bench
from fault_rig import SPEC, Seer, WatchedRobot

from robot_io import UserError
from robot_io.dataset import Dataset, Recorder
from vla.evaluate.statistics import rate_of
from vla.results import Row, save_rows
from vla.serve import PolicyServer

COMMAND = "python benchmarks/faults.py"


@dataclass
class Outcome:
    """Of one trial."""

    as_it_should: bool
    moved_wrongly: bool
    crashed: bool
    log_lost: bool


ON_SMALL_DISK = {"disk full", "disk nearly full"}


def trial(name: str, seed: int) -> Outcome:
    chance = random.Random(f"{name} {seed}")
    with folder(small=name in ON_SMALL_DISK) as root:
        bench = Bench(chance, WatchedRobot(), root / "log", ("synchronous", "asynchronous")[seed % 2])
        before = record_one(bench)
        bench.robot.reset(seed)
        ended, crashed = False, False
        try:
            ended = FAULTS[name](bench)
        except Exception:
            crashed = True
            traceback.print_exc()
        return Outcome(ended, bench.robot.moved_wrongly, crashed, log_lost(bench, before, name))


def record_one(bench: Bench) -> np.ndarray:
    """An earlier episode, which must survive. Returns its actions."""
    bench.robot.reset(999)
    recorder = Recorder(bench.log, SPEC)
    for observation in (bench.robot.observe() for _ in range(10)):
        recorder.add(observation, np.full(2, 0.01))
        bench.robot.act(np.full(2, 0.01))
    recorder.save_episode(True)
    return np.full((10, 2), 0.01, np.float32)


def log_lost(bench: Bench, before: np.ndarray, name: str) -> bool:
    """Whether the data set is unreadable, the earlier episode has changed, or a step that counts as logged is not there as it was."""
    try:
        data = Dataset(bench.log)
        data.check(SPEC, SPEC.observation.camera_names)
        actions = data.column("action")
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return True
    if not np.array_equal(actions[:10], before):
        return True
    moves = np.array([action for action in bench.robot.told if np.abs(action).max() > 0], np.float32).reshape(-1, 2)
    logged = actions[10:][np.abs(actions[10:]).max(1) > 0]
    if name in ON_SMALL_DISK:
        return not np.array_equal(logged, moves[: len(logged)]) or (bench.report is not None and bench.report.logged != len(actions) - 10)
    return not np.array_equal(logged, moves)


@contextlib.contextmanager
def folder(small: bool) -> Iterator[Path]:
    """A temporary folder, `small` on a file system of 3 MB of its own."""
    with tempfile.TemporaryDirectory() as name:
        if small:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", name], check=True)
        try:
            yield Path(name)
        finally:
            if small:
                subprocess.run(["umount", name], check=True)


def rows_of(name: str, outcomes: list[Outcome]) -> list[Row]:
    common = {"seeds": list(range(len(outcomes))), "recipe": "", "command": COMMAND}
    return [{"cell": {"fault": name}, "metric": metric, **rate_of([getattr(outcome, metric) for outcome in outcomes]).to_dict(), **common}
            for metric in Outcome.__dataclass_fields__]


def serve(port: int) -> None:
    PolicyServer(Seer(), port=port).serve_forever(lambda: print("ready", flush=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--only", nargs="+", choices=FAULTS)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return
    rows = []
    for name in arguments.only or FAULTS:
        outcomes = [trial(name, seed) for seed in range(arguments.trials)]
        rows += rows_of(name, outcomes)
        counts = {field: sum(getattr(outcome, field) for outcome in outcomes) for field in Outcome.__dataclass_fields__}
        print(f"{name}: {counts} of {len(outcomes)}", flush=True)
    if arguments.out:
        save_rows(arguments.out, rows)


if __name__ == "__main__":
    main()

"""How evenly the runner commands a robot, against a loop that does nothing but sleep, in turns on the same machine.

    python benchmarks/jitter.py            # docs/results/jitter.json; then: python -m vla.results

The runner looks, asks a policy on its other thread, passes every action through the safety layer and sends it; the loop sleeps until the next
step is due. What is measured is the time from one command to the next: how far its median is from the period, and how far its 99th percentile.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from toy_robot import ToyRobot

from robot_io import ActionChunk, Observation
from robot_io.execution.pace import Pace
from robot_io.runner import Runner
from vla.evaluate.statistics import mean_of
from vla.results import Row, save_rows

COMMAND = "python benchmarks/jitter.py"
RATES = (10.0, 50.0)
HORIZON, EXECUTE = 8, 4


class Clocked:
    """The toy robot, standing still, as a real one: nobody resets or judges it. Remembers when it was told anything."""

    def __init__(self, rate_hz: float) -> None:
        self._robot = ToyRobot(rate_hz=rate_hz)
        self._robot.reset(0)
        self.spec, self.told = self._robot.spec, []

    def observe(self) -> Observation:
        return self._robot.observe()

    def act(self, action: np.ndarray) -> None:
        self.told.append(time.perf_counter())

    def close(self) -> None:
        pass


class Still:
    """A policy that takes 20 ms to decide to stay."""

    def __init__(self, robot: Clocked) -> None:
        self._chunk = ActionChunk(np.zeros((HORIZON, robot.spec.action.dim), np.float32), robot.spec.action)

    def infer(self, observation: Observation) -> ActionChunk:
        time.sleep(0.02)
        return self._chunk

    def reset(self, seed: int = 0) -> None:
        pass


def runner(rate_hz: float, seconds: float) -> list[float]:
    robot = Clocked(rate_hz)
    Runner(robot, Still(robot), execution="asynchronous", execute=EXECUTE).run(seconds=seconds)
    return robot.told[2:-1]  # the first waits for the policy, the last is the stop


def sleeping(rate_hz: float, seconds: float) -> list[float]:
    pace, told, until = Pace(rate_hz), [], time.perf_counter() + seconds
    while time.perf_counter() < until:
        pace.wait()
        told.append(time.perf_counter())
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a round")
    parser.add_argument("--out", type=Path, default=Path("docs/results/jitter.json"))
    options = parser.parse_args()
    rows: list[Row] = []
    for rate in RATES:
        off: dict[str, list[np.ndarray]] = {"a loop that sleeps": [], "runner": []}
        for _ in range(options.rounds):
            for found, loop in zip(off.values(), (sleeping, runner), strict=True):
                found.append(1e3 * (np.diff(loop(rate, options.seconds)) - 1 / rate))
        for name, found in off.items():
            for metric, percentile in (("median_off_ms", 50), ("p99_off_ms", 99)):
                each = [float(abs(np.percentile(of_round, percentile))) for of_round in found]
                cell = {"steps per second": f"{rate:g}", "loop": name}
                rows.append({"cell": cell, "metric": metric, **mean_of(each).to_dict(), "n": sum(map(len, found)), "seeds": [], "recipe": "",
                             "command": COMMAND})
                print(rate, name, metric, f"{rows[-1]['mean']:.3f} [{rows[-1]['low']:.3f}, {rows[-1]['high']:.3f}]", flush=True)
    save_rows(options.out, rows)


if __name__ == "__main__":
    main()

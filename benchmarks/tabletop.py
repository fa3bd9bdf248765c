"""What the tabletop simulator costs, and how well its expert does.

    python benchmarks/tabletop.py            # writes docs/results/tabletop_{speed,expert,regimes}.json; then: python -m vla.results
    python benchmarks/tabletop.py regimes    # only that one

CPU milliseconds on one thread, each averaged over a hundred repetitions or more; the expert on seeds 0 to 99, in the clutter
benchmark's regimes on the first 40 validation seeds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from robot_io.tabletop.expert import Expert
from robot_io.tabletop.regimes import REGIMES
from robot_io.tabletop.robot import TabletopRobot
from vla.evaluate.seeds import seeds
from vla.evaluate.statistics import Rate, mean_of, rate_of
from vla.results import Row, save_rows

OUT = Path("docs/results")
COMMAND = "python benchmarks/tabletop.py"
SEEDS = list(range(100))
REGIME_SEEDS = list(seeds("validation", 40))
EXECUTE = 4  # steps between two looks of a chunked policy

CELLS: list[tuple[dict[str, str], dict[str, Any], float]] = [
    ({"task": "pick, 2 objects", "noise": "0"}, {}, 0.0),
    ({"task": "pick, 2 objects", "noise": "0.06"}, {}, 0.06),
    ({"task": "pick, 2 objects, joint actions", "noise": "0.06"}, {"action_space": "joint"}, 0.06),
    ({"task": "pick, 5 objects, all shapes", "noise": "0.06"},
     {"task": {"distractors": 4, "shapes": ("cube", "cylinder", "ball", "block", "cross", "pyramid")}}, 0.06),
    ({"task": "place, 2 objects", "noise": "0"}, {"task": {"task": "place"}}, 0.0),
    ({"task": "place, 2 objects", "noise": "0.06"}, {"task": {"task": "place"}}, 0.06),
]


def episode(robot: TabletopRobot, expert: Expert, seed: int, look_every: int = 0) -> None:
    """One demonstration, drawing the cameras every `look_every` steps (0: never)."""
    robot.reset(seed)
    expert.reset(seed)
    step = 0
    while not robot.outcome().done:
        if look_every and step % look_every == 0:
            robot.observe()
        robot.act(expert.decide()[1])
        step += 1


def timed(work: Callable[[int], None], repeats: int = 100) -> Rate:
    """CPU milliseconds of `work(0)`, `work(1)`, …"""
    work(0)
    times = []
    for i in range(repeats):
        start = time.process_time()
        work(i)
        times.append(1e3 * (time.process_time() - start))
    return mean_of(times)


def speed() -> list[Row]:
    robot = TabletopRobot()
    expert = Expert(robot, noise=0.06)
    robot.reset(0)
    still = np.array([0, 0, 0, 0, 0, 0, 1.0])
    measured = {
        "control step (50 physics steps)": timed(lambda i: robot.act(still)),
        "observe (2 cameras, RGB-D, 128 px)": timed(lambda i: robot.observe()),
        "masks (2 cameras)": timed(lambda i: robot.masks()),
        "reset": timed(robot.reset),
        "randomize": timed(robot.randomize),
        "demonstration, nothing drawn": timed(lambda seed: episode(robot, expert, seed)),
        f"trial, drawn every {EXECUTE} steps": timed(lambda seed: episode(robot, expert, seed, EXECUTE)),
        "demonstration, drawn every step": timed(lambda seed: episode(robot, expert, seed, 1)),
    }
    robot.close()
    return [row({"operation": name}, "cpu_ms", value) for name, value in measured.items()]


def expert_success() -> list[Row]:
    rows = []
    for cell, options, noise in CELLS:
        robot = TabletopRobot(**options)
        expert = Expert(robot, noise=noise)
        outcomes = []
        for seed in SEEDS:
            episode(robot, expert, seed)
            outcomes.append(robot.outcome())
        rows += [row(cell, "success", rate_of([outcome.success for outcome in outcomes])),
                 row(cell, "wrong_object", rate_of([outcome.wrong_object for outcome in outcomes])),
                 row(cell, "steps", mean_of([outcome.steps for outcome in outcomes]))]
    return rows


def regimes() -> list[Row]:
    """The expert in each regime, and what a control step and a look cost there while it works."""
    rows = []
    for name, options in REGIMES.items():
        robot = TabletopRobot(**options)
        expert = Expert(robot)
        outcomes, acting, looking = [], [], []
        for seed in REGIME_SEEDS:
            robot.reset(seed)
            looking.append(cpu_ms(robot.observe))
            while not robot.outcome().done:
                action = expert.decide()[1]
                acting.append(cpu_ms(partial(robot.act, action)))
            outcomes.append(robot.outcome())
        robot.close()
        measured = {"success": rate_of([outcome.success for outcome in outcomes]),
                    "wrong_object": rate_of([outcome.wrong_object for outcome in outcomes]),
                    "act_ms": mean_of(acting), "observe_ms": mean_of(looking[1:])}
        rows += [row({"regime": name}, metric, value, REGIME_SEEDS, f"{COMMAND} regimes") for metric, value in measured.items()]
    return rows


def cpu_ms(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return 1e3 * (time.process_time() - start)


def row(cell: dict[str, str], metric: str, value: Rate, used: list[int] = SEEDS, command: str = COMMAND) -> Row:
    return {"cell": cell, "metric": metric, "mean": value.mean, "low": value.low, "high": value.high, "n": value.n,
            "seeds": used, "recipe": "", "command": command}


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    parts = {"speed": speed, "expert": expert_success, "regimes": regimes}
    for name in sys.argv[1:] or parts:
        save_rows(OUT / f"tabletop_{name}.json", parts[name]())


if __name__ == "__main__":
    main()

"""What a head costs inside its policy: the latency of a chunk, and of an action carried out.

    python benchmarks/heads_cost.py --data DATA --run runs/ablations [--grid denoising]

Reads the policies that `vla ablate heads` left and merges its rows into the grid's table, in place of the latencies that were clocked while
the trials ran on a busy machine. All of them see the same observation in turn: CPU milliseconds of one thread, so that whatever else runs
slows all alike.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from vla.ablate import Cell, Grid
from vla.evaluate.drivers import make_robot, preload
from vla.evaluate.statistics import mean_of
from vla.grids.heads import denoising, heads
from vla.policy import Policy
from vla.results import Row, merge_rows

WARM_UP = 3


def in_turn(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """CPU milliseconds of every call, the functions called in turn."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + WARM_UP):
        for name, function in functions.items():
            began = time.thread_time()
            function()
            if repeat >= WARM_UP:
                times[name].append(1e3 * (time.thread_time() - began))
    return times


def latencies(grid: Grid, run: Path, data: Path, repeats: int) -> list[Row]:
    """Of every cell whose policy is there."""
    found: dict[str, tuple[Cell, Policy]] = {}
    for cell in grid.cells:
        folder = run / grid.resolve(cell, grid.seeds[0], data).hash
        folder = folder / "student" if cell.student is not None else folder
        if (folder / "policy").is_dir():
            found[cell.label] = cell, Policy.load(folder / "policy", overrides=cell.opened)
    robot = make_robot({"kind": "tabletop"})
    robot.reset(10_000)
    seen = robot.observe()
    times = in_turn({label: lambda policy=policy: policy.infer(seen) for label, (_, policy) in found.items()}, repeats)
    command = f"python benchmarks/heads_cost.py --data DATA --run RUN --grid {grid.name}"
    rows = []
    for label, (cell, policy) in found.items():
        levels, recipe = cell.levels | {"training seeds": str(len(grid.seeds))}, policy.recipe
        for metric, each in (("latency_ms", 1), ("latency_per_action_ms", recipe.execute)):
            value = mean_of([ms / each for ms in times[label]])
            rows.append({"cell": levels, "metric": metric, **value.to_dict(), "seeds": [], "recipe": recipe.hash, "command": command})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="where `vla ablate` left its policies")
    parser.add_argument("--grid", choices=("heads", "denoising"), default="heads")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    preload()
    torch.set_num_threads(1)
    grid = {"heads": heads, "denoising": denoising}[arguments.grid]()
    merge_rows(arguments.results / f"{grid.name}.json", latencies(grid, arguments.run, arguments.data, arguments.repeats))


if __name__ == "__main__":
    main()

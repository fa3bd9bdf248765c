"""What a training step costs with each cell of the grid `lora`: CPU milliseconds on one thread, all cells in turns.

    python -m benchmarks.tuning_step --data data/pick          # writes docs/results/lora_step.json; then: python -m vla.results

A batch of 32, the eye frozen and its features cached, no moving average.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.rounds import cpu_seconds
from vla.evaluate.statistics import mean_of
from vla.grids import find_grid
from vla.overrides import apply_overrides
from vla.recipe import Recipe
from vla.results import save_rows
from vla.train.display import Display
from vla.train.loop import Trainer
from vla.train.run import Run

WARM = 3
COMMAND = "python -m benchmarks.tuning_step --data data/pick"


def trainers(data: Path, scratch: Path) -> dict[str, tuple[dict[str, str], Trainer]]:
    grid, found = find_grid("lora"), {}
    for cell in grid.cells:
        recipe = Recipe.from_dict(apply_overrides(grid.resolve(cell, 0, data).to_dict(), ["train.ema=null"]))
        found[cell.label] = cell.levels, Trainer(recipe, Run(recipe, scratch / recipe.hash), Display(False))
        found[cell.label][1]._open_pictures()
        found[cell.label][1].policy.train()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("docs/results/lora_step.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        cells = trainers(options.data, Path(scratch))
        times: dict[str, list[float]] = {label: [] for label in cells}
        for step in range(options.steps + WARM):
            for label, (_, trainer) in cells.items():
                times[label].append(1e3 * cpu_seconds(lambda s=step, t=trainer: t.advance(s)))
    save_rows(options.out, [
        {"cell": levels, "metric": "step_cpu_ms", **mean_of(times[label][WARM:]).to_dict(), "seeds": [], "recipe": trainer.recipe.hash,
         "command": COMMAND} for label, (levels, trainer) in cells.items()])


if __name__ == "__main__":
    main()

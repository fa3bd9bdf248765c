"""`fusion`: the ablation of VO-DP (arXiv 2510.15530, tables 3 and 4) on the tabletop: what the policy sees, in the scenes it was shown and in others.

Every cell has the same demonstrations (one object alone, plain table), backbone, head, number of steps and learning rate. What differs is what
takes the place of pictures; cells without pictures share one cache of maps.

`python -m vla.grids.fusion --run DIR --demonstrations DATA` trains what is not trained yet, and tries each policy on the same test scenes under
every regime; rows after every cell.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vla.ablate import Cell, Grid
from vla.evaluate.benchmark import benchmark
from vla.results import Row, save_rows
from vla.train import train

SHIFTS = ("held-out pair", "background table", "background lighting", "camera")
"""What changes against the demonstrations: the thing's colour (pairs of colour and shape never shown), the table, the light, where the camera is."""
COMMAND = "python -m vla.grids.fusion"


def _cell(name: str, *overrides: str) -> Cell:
    return Cell({"policy sees": name}, overrides)


def fusion() -> Grid:
    return Grid(
        "fusion", "fused", seeds=(0,), trials=100, common=("train.steps=300",),
        cells=(
            _cell("semantic and geometric, fused"),
            _cell("semantic alone", "perception.1.use=semantic"),
            _cell("geometric alone", "perception.1.use=geometric"),
            _cell("pictures, pretrained eye", "perception=[]"),
            _cell("pictures, eye and trunk from scratch", "perception=[]", "backbone.weights=null", "tuning.mode=full", "tuning.vision=full"),
        ),
    )


def compare(root: Path, demonstrations: Path, trials: int, shifted: int, out: Path, only: tuple[str, ...] = (), split: str = "test") -> list[Row]:
    """Train and try every cell; `trials` scenes as demonstrated, `shifted` in each of `SHIFTS`."""
    grid, rows = fusion(), []
    for cell in grid.chosen(only):
        sources = [str(train(recipe, root / recipe.hash).policy_dir)
                   for recipe in (grid.resolve(cell, seed, demonstrations) for seed in grid.seeds)]
        for regimes, count in ((("clean",), trials), (SHIFTS, shifted)):
            if count:
                rows += benchmark({cell.label: sources}, regimes, trials=count, out=root / "trials", split=split, command=COMMAND)
                save_rows(out, rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--demonstrations", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--shifted", type=int, default=50, help=f"in each of {', '.join(SHIFTS)}")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path, default=Path("docs/results/fusion.json"))
    options = parser.parse_args()
    compare(options.run, options.demonstrations, options.trials, options.shifted, options.out, tuple(options.only), options.split)


if __name__ == "__main__":
    main()

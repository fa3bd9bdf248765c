"""Grids in other rooms than the demonstrations': every policy on the same test scenes as shown, and with one thing changed (`SHIFTS`).

    python -m vla.grids.shifts fusion lift3d --run DIR --demonstrations DATA --out docs/results/perception.json

trains what is not trained yet, tries what is not tried yet, and writes a row per cell and regime of all that lies in DIR. `--only CELL` does
that cell alone (for several processes side by side), `--trials 0 --shifted 0` trains, and without `--demonstrations` nothing is run and
the table is made of what is there. Grids may share cells: a recipe is trained and tried once, under the first of its names.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from robot_io import UserError
from robot_io.errors import nearest
from vla.ablate import Cell, Grid
from vla.evaluate.benchmark import benchmark
from vla.figures import COLOURS
from vla.files import slug
from vla.grids import find_grid
from vla.results import Row, save_rows
from vla.train import train

SHIFTS = ("held-out pair", "background table", "background lighting", "camera")
"""What changes against the demonstrations: the thing's colour (pairs of colour and shape never shown), the table, the light, where the camera is."""
REGIMES = ("clean", *SHIFTS)


def name_of(cell: Cell) -> str:
    """What the table calls a policy: its levels, but for the factors that do not apply to it."""
    return ", ".join(level for level in cell.levels.values() if level != "–")


def cells(grids: Sequence[Grid]) -> Iterator[tuple[Grid, Cell]]:
    """Of all grids, every recipe once."""
    seen = set()
    for grid in grids:
        for cell in grid.cells:
            recipe = grid.resolve(cell, 0)
            if recipe.hash not in seen:
                seen.add(recipe.hash)
                yield grid, cell


def compare(grids: Sequence[Grid], root: Path, demonstrations: Path, trials: int, shifted: int, only: Sequence[str] = (),
            seeds: Sequence[int] = (0,), split: str = "test") -> None:
    """Train and try the cells with these names (all, if none is named): `trials` scenes as demonstrated, `shifted` in each of `SHIFTS`.

    Raises:
        UserError: a name that no cell has.
    """
    known = {name_of(cell): (grid, cell) for grid, cell in cells(grids)}
    for name in only:
        if name not in known:
            raise UserError(f"cell '{name}'", f"not in {', '.join(grid.name for grid in grids)}", nearest(name, known), "name one of their cells")
    for name in only or known:
        grid, cell = known[name]
        recipes = [grid.resolve(cell, seed, demonstrations) for seed in seeds]
        sources = [str(train(recipe, root / recipe.hash).policy_dir) for recipe in recipes]
        for regimes, count in ((("clean",), trials), (SHIFTS, shifted)):
            if count:
                benchmark({name: sources}, regimes, trials=count, out=root / "trials", split=split)


def table(grids: Sequence[Grid], root: Path, seeds: Sequence[int] = (0,), split: str = "test", command: str = "") -> list[Row]:
    """Rows of the trials that are there; nothing is run."""
    rows: list[Row] = []
    for grid, cell in cells(grids):
        name = name_of(cell)
        policies = [root / grid.resolve(cell, seed).hash / "policy" for seed in seeds]
        for regime in REGIMES:
            done = [_lines(root / "trials" / f"{slug(name)}-{number}" / f"{slug(regime)}.jsonl") for number in range(len(policies))]
            tried = [str(policy) for policy, count in zip(policies, done, strict=True) if count]
            if tried:
                rows += benchmark({name: tried}, (regime,), trials=min(count for count in done if count), out=root / "trials", split=split,
                                  command=command)
    return rows


def draw(rows: Sequence[Row], path: Path | str) -> None:
    """A panel per regime, a line per policy: success with its interval."""
    rows = [row for row in rows if row["metric"] == "success"]
    policies = list(dict.fromkeys(row["cell"]["policy"] for row in rows))
    regimes = [regime for regime in REGIMES if any(row["cell"]["regime"] == regime for row in rows)]
    figure = Figure(figsize=(2.6 + 1.7 * len(regimes), 0.7 + 0.32 * len(policies)), layout="constrained")
    for axes, regime in zip(figure.subplots(1, len(regimes), sharey=True, squeeze=False)[0], regimes, strict=True):
        own = [row for row in rows if row["cell"]["regime"] == regime]
        height = [policies.index(row["cell"]["policy"]) for row in own]
        axes.hlines(height, [100 * row["low"] for row in own], [100 * row["high"] for row in own], color=COLOURS[0], alpha=0.35, linewidth=5)
        axes.plot([100 * row["mean"] for row in own], height, "o", color=COLOURS[0], markersize=5)
        axes.set(title=regime, xlim=(-3, 103), ylim=(len(policies) - 0.5, -0.5), yticks=range(len(policies)), yticklabels=policies)
        axes.title.set_fontsize(10)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
        axes.grid(alpha=0.3)
    figure.supxlabel("success, %", fontsize=10)
    figure.savefig(path, dpi=150)


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grids", nargs="+", help="of vla.grids, or YAML files")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--demonstrations", type=Path)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--shifted", type=int, default=40, help=f"in each of {', '.join(SHIFTS)}")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--seeds", type=int, default=1, help="training seeds of every cell")
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path, help="where the table goes")
    parser.add_argument("--figure", type=Path, help="and its picture")
    options = parser.parse_args()
    grids, seeds = [find_grid(name) for name in options.grids], range(options.seeds)
    if options.demonstrations is not None:
        compare(grids, options.run, options.demonstrations, options.trials, options.shifted, options.only, seeds, options.split)
    if options.out is not None:
        rows = table(grids, options.run, seeds, options.split, f"python -m vla.grids.shifts {' '.join(options.grids)}")
        save_rows(options.out, rows)
        if options.figure is not None and rows:
            draw(rows, options.figure)


if __name__ == "__main__":
    main()

"""The figure of `vla ablate denoising`: success against the number of denoising steps, with 95 % intervals.

    python benchmarks/denoising_steps.py      # docs/results/denoising.json -> docs/images/denoising.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from vla.results import Row, load_rows

COLOURS = {"diffusion": "#d1652f", "flow": "#3f7fbf"}


def draw(rows: list[Row], path: Path) -> None:
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.subplots()
    successes = [row for row in rows if row["metric"] == "success"]
    for place, head in enumerate(dict.fromkeys(row["cell"]["head"] for row in successes)):
        found = sorted((int(row["cell"]["steps"]), row) for row in successes if row["cell"]["head"] == head)
        mean = [100 * row["mean"] for _, row in found]
        bounds = [[100 * abs(row["mean"] - row[end]) for _, row in found] for end in ("low", "high")]
        # A little apart, or intervals would hide one another.
        axes.errorbar([steps * (1 + 0.05 * place) for steps, _ in found], mean, yerr=bounds, marker="o", markersize=4, capsize=2, linewidth=1.4,
                      color=COLOURS.get(head), label=head)
    steps = sorted({int(row["cell"]["steps"]) for row in successes})
    axes.set_xscale("log")
    axes.set_xticks(steps, [str(step) for step in steps])
    axes.minorticks_off()
    axes.set(xlabel="denoising steps", ylabel="success, %", ylim=(0, 102))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("docs/results/denoising.json"))
    parser.add_argument("--out", type=Path, default=Path("docs/images/denoising.png"))
    arguments = parser.parse_args()
    draw(load_rows(arguments.results), arguments.out)


if __name__ == "__main__":
    main()

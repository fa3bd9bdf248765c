"""The clutter benchmark: policies × regimes on the same test scenes, resumable; one table and one figure.

    rows = benchmark({"raw RGB": ["runs/clutter/raw-0/policy", "runs/clutter/raw-1/policy"], …}, ["clean", "distractors 7"], trials=150,
                     out="runs/clutter/trials")

A policy may be several folders (its training seeds): their trials are pooled. The regimes are `robot_io.tabletop.regimes`. A policy
whose perception is an oracle runs on a robot that tells the truth, and its name says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from robot_io.tabletop.regimes import HEADLINE, distractors_of, options
from vla.evaluate.drivers import find
from vla.evaluate.evaluate import EvaluationResult, evaluate, pool
from vla.evaluate.seeds import seeds
from vla.files import slug
from vla.results import Row

ORACLE = "kind: oracle"


def benchmark(policies: Mapping[str, Sequence[str]], regimes: Sequence[str] = HEADLINE, *, trials: int | Mapping[str, int] = 150,
              out: Path | str, split: str = "test", workers: int = 1, command: str = "") -> list[Row]:
    """Run what has not been run yet and return the rows.

    Args:
        policies: by the name that the table shows, the sources (`vla.evaluate.drivers`) of its training seeds.
        trials: scenes per regime and training seed, or by policy name.
        out: folder of the trial files.

    Raises:
        UserError: an unknown regime or a policy that is not there, before any trial; a policy for another robot, before its first.
    """
    for source in (source for sources in policies.values() for source in sources):
        find(source)
    robots = {regime: {"kind": "tabletop", **options(regime)} for regime in regimes}
    rows: list[Row] = []
    for name, sources in policies.items():
        count = trials if isinstance(trials, int) else trials[name]
        for regime, robot in robots.items():
            results = [_run(source, robot, regime, Path(out) / f"{slug(name)}-{seed}", split, count, workers)
                       for seed, source in enumerate(sources)]
            rows += _rows(name, regime, results, command)
    return rows


def _run(source: str, robot: dict[str, Any], regime: str, folder: Path, split: str, trials: int, workers: int) -> EvaluationResult:
    robot = robot | {"oracle": True} if ORACLE in source else robot
    return evaluate(source, robot, seeds(split, trials), out=folder / f"{slug(regime)}.jsonl", workers=workers)


def _rows(name: str, regime: str, results: Sequence[EvaluationResult], command: str) -> list[Row]:
    """Success, wrong object and latency, the trials of all training seeds together. In absent regimes success is abstaining."""
    pooled = pool(results)
    metrics = {"success": pooled.success, "wrong_object": pooled.wrong_object, "latency_ms": pooled.mean_latency_ms}
    return pooled.rows_of(metrics, {"policy": name, "regime": regime, "training seeds": str(len(results))}, command)


def draw(rows: Sequence[Row], path: Path | str) -> None:
    """Success against the number of distractors, a line per policy, 95 % bands."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.add_subplot()
    for name in dict.fromkeys(row["cell"]["policy"] for row in rows):
        own = [row for row in rows if row["metric"] == "success" and row["cell"]["policy"] == name]
        own = [row for row in own if distractors_of(row["cell"]["regime"]) is not None]
        x = [distractors_of(row["cell"]["regime"]) for row in own]
        axes.plot(x, [100 * row["mean"] for row in own], marker="o", markersize=4, label=name)
        axes.fill_between(x, [100 * row["low"] for row in own], [100 * row["high"] for row in own], alpha=0.15)
    axes.set(xlabel="objects on the table that are not meant", ylabel="success, %", ylim=(0, 102))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 0.2))
    figure.savefig(path, dpi=150)

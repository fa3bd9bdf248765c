"""What latency does to a policy, by how its chunks are carried out: injected into the tabletop's own time, on the same scenes.

    python benchmarks/latency.py runs/pick/policy --trials 60

A prediction takes 0 to 5 control steps of a tenth of a second; synchronous execution, naive asynchronous, temporal ensembling and
real-time chunking (`robot_io.execution`) run the same policy on the same scenes with the same noise. Scenes are taken in blocks, every cell
before the next block, so a run that is stopped has pairs; it goes on where it stopped. Writes `docs/results/latency.json`
and `docs/images/latency.png`.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import torch
from matplotlib.figure import Figure

from robot_io.specs import require_compatible
from vla.evaluate.drivers import Source, find, make_robot, open_driver, preload
from vla.evaluate.episode import Trial, run_episode
from vla.evaluate.evaluate import EvaluationResult
from vla.evaluate.seeds import seeds
from vla.evaluate.statistics import compare, mean_of
from vla.evaluate.trials import Setting, TrialFile
from vla.results import Row, save_rows

EXECUTIONS = ("synchronous", "asynchronous", "ensembling", "real_time")
NAMES = {"synchronous": "synchronous", "asynchronous": "naive asynchronous", "ensembling": "temporal ensembling", "real_time": "real-time chunking"}
COLOURS = {"synchronous": "#6b6b6b", "asynchronous": "#d1652f", "ensembling": "#3f7fbf", "real_time": "#2f8f5b"}
BLOCK = 10

Cell = tuple[str, int]


def trial_files(source: Source, execute: int, delays: list[int], executions: list[str], split: str, folder: Path) -> dict[Cell, TrialFile]:
    robot = make_robot(source.robot)
    require_compatible(source.spec, robot.spec)
    files = {}
    for execution, delay in product(executions, delays):
        setting = Setting(source.hash, source.recipe, robot.spec.hash, source.robot, execute, None, execution, delay)
        files[execution, delay] = TrialFile(folder / f"{split}-{execution}-{delay}-{execute}.jsonl", setting)
    return files


def run(source: Source, execute: int, files: dict[Cell, TrialFile], scenes: range) -> None:
    """Run what has not been run yet. Without latency the asynchronous kinds ask and change over as the synchronous one does, but
    real-time chunking still lets the chunks agree."""
    preload()
    torch.set_num_threads(1)
    robot = make_robot(source.robot)
    driver = open_driver(source, robot)
    for block in (scenes[start : start + BLOCK] for start in range(0, len(scenes), BLOCK)):
        for (execution, delay), file in files.items():
            for seed in (seed for seed in block if seed not in file.trials):
                file.append(run_episode(robot, driver, seed=seed, execute=execute, execution=execution, delay=delay))
        counts = {cell: sum(trial.success for trial in file.trials.values()) for cell, file in files.items()}
        print(f"scenes to {block[-1]}: {counts}", flush=True)


def results_of(files: dict[Cell, TrialFile], scenes: range) -> dict[Cell, EvaluationResult]:
    """What has been run, of these scenes."""
    return {cell: EvaluationResult(file.setting, tuple(file.trials[seed] for seed in scenes if seed in file.trials), {})
            for cell, file in files.items()}


def rows_of(results: dict[Cell, EvaluationResult], rate_hz: float, command: str) -> list[Row]:
    rows = []
    for (execution, delay), result in results.items():
        metrics = {"success": result.success, "cycle_seconds": result.cycle_seconds,
                   "jerk_thousandths": mean_of([1e3 * trial.jerk for trial in result.trials])}
        cell = {"execution": NAMES[execution], "latency_ms": f"{1000 * delay / rate_hz:.0f}"}
        rows += result.rows_of({name: rate for name, rate in metrics.items() if rate.n}, cell, command)
    return rows


def pairs(results: dict[Cell, EvaluationResult], against: str) -> str:
    """Real-time chunking against another on the scenes of both, each latency alone and all above 0 together (McNemar's exact test)."""
    lines = []
    delays = sorted({delay for _, delay in results})
    for some in [[delay] for delay in delays] + [[delay for delay in delays if delay]]:
        ours, theirs = ({(delay, seed): success for delay in some for seed, success in results[kind, delay].by_seed().items()}
                        for kind in ("real_time", against))
        common = ours.keys() & theirs.keys()
        found = compare(*({pair: successes[pair] for pair in common} for successes in (ours, theirs)))
        lines.append(f"  delay {some}: {found.difference:+.3f}, {found.a_only} against {found.b_only} of {len(common)}, p = {found.p_value:.4f}")
    return f"real-time chunking less {NAMES[against]}\n" + "\n".join(lines)


def draw(results: dict[Cell, EvaluationResult], rate_hz: float, path: Path) -> None:
    """Success and the time that successes took, against latency; 95 % intervals."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    kinds = list(dict.fromkeys(kind for kind, _ in results))
    for place, kind in enumerate(kinds):
        delays = sorted(delay for found, delay in results if found == kind)
        # A little apart, or intervals would hide one another.
        x = [1000 * delay / rate_hz + 8 * (place - (len(kinds) - 1) / 2) for delay in delays]
        for axes, scale, name in ((left, 100, "success"), (right, 1, "cycle_seconds")):
            rates = [getattr(results[kind, delay], name) for delay in delays]
            mean = [scale * rate.mean for rate in rates]
            low, high = ([scale * abs(rate.mean - getattr(rate, end)) for rate in rates] for end in ("low", "high"))
            axes.errorbar(x, mean, yerr=(low, high), marker="o", markersize=4, capsize=2, linewidth=1.4, color=COLOURS[kind], label=NAMES[kind])
    left.set(xlabel="latency of a prediction, ms", ylabel="success, %", ylim=(0, 102))
    right.set(xlabel="latency of a prediction, ms", ylabel="duration of a success, s")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    left.legend(frameon=False, fontsize=8, loc="lower left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("policy")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--delays", type=int, nargs="+", default=[0, 1, 2, 3, 5])
    parser.add_argument("--executions", nargs="+", default=list(EXECUTIONS), choices=EXECUTIONS)
    parser.add_argument("--execute", type=int)
    parser.add_argument("--split", default="test")
    parser.add_argument("--run", type=Path, default=Path("runs/latency"))
    parser.add_argument("--report", action="store_true", help="run nothing: tell what has been run")
    parser.add_argument("--out", type=Path, help="folder of results/ and images/")
    arguments = parser.parse_args()
    source, scenes = find(arguments.policy), seeds(arguments.split, arguments.trials)
    execute = arguments.execute or source.execute
    files = trial_files(source, execute, arguments.delays, arguments.executions, arguments.split, arguments.run)
    if not arguments.report:
        run(source, execute, files, scenes)
    results, rate_hz = results_of(files, scenes), source.spec.action.rate_hz
    for (kind, delay), result in results.items():
        print(f"{NAMES[kind]:22} {delay} steps: {summary(result.trials)}")
    for against in [kind for kind in arguments.executions if kind != "real_time" and "real_time" in arguments.executions]:
        print(pairs(results, against))
    if arguments.out:
        command = f"python benchmarks/latency.py POLICY --execute {execute}"
        save_rows(arguments.out / "results" / "latency.json", rows_of(results, rate_hz, command))
        draw(results, rate_hz, arguments.out / "images" / "latency.png")


def summary(trials: tuple[Trial, ...]) -> str:
    won = [trial.seconds for trial in trials if trial.success]
    return f"{len(won)}/{len(trials)}" + (f", {sum(won) / len(won):.2f} s each" if won else "")


if __name__ == "__main__":
    main()

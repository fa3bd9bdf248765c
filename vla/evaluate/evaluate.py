"""Closed-loop evaluation of a policy on fixed seeds, in parallel, resumable, the same whatever the number of workers.

    result = evaluate("runs/demo/policy", {"kind": "tabletop"}, seeds("test", 100), workers=2, out="runs/demo/test.jsonl")
    print(percent(result.success))  # 92.0 % [85.0, 95.9]

Everything that can be refused is refused before the first trial: a policy for another robot, a trial file of another
policy, an unknown robot option.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from robot_io import UserError
from robot_io.specs import require_compatible
from vla.evaluate.drivers import find, make_robot
from vla.evaluate.episode import Trial
from vla.evaluate.runner import trial_runner
from vla.evaluate.statistics import Rate, mean_of, percent, rate_of
from vla.evaluate.trials import Setting, TrialFile
from vla.workers import parallel


@dataclass(frozen=True)
class EvaluationResult:
    """The trials of one policy in one setting, by ascending seed."""

    setting: Setting
    trials: tuple[Trial, ...]
    films: dict[int, Path]

    @property
    def success(self) -> Rate:
        return rate_of([trial.success for trial in self.trials])

    @property
    def wrong_object(self) -> Rate:
        return rate_of([trial.wrong_object for trial in self.trials])

    @property
    def cycle_seconds(self) -> Rate:
        """Duration of the successful trials on the robot's clock."""
        return mean_of([trial.seconds for trial in self.trials if trial.success])

    @property
    def mean_latency_ms(self) -> Rate:
        """Of a prediction, trial by trial."""
        return mean_of([float(np.mean(trial.infer_ms)) for trial in self.trials if trial.infer_ms])

    @property
    def jerk_permille(self) -> Rate:
        """How abruptly the trials' commanded motions change (see `episode.jerk`), in thousandths of the range per step³."""
        return mean_of([1e3 * trial.jerk for trial in self.trials if trial.jerk is not None])

    @property
    def latency_per_action_ms(self) -> Rate:
        """Prediction time per action carried out, trial by trial."""
        return mean_of([sum(trial.infer_ms) / trial.steps for trial in self.trials if trial.steps])

    @property
    def infer_ms(self) -> np.ndarray:
        """Every prediction's time, milliseconds."""
        return np.array([ms for trial in self.trials for ms in trial.infer_ms])

    def latency_ms(self, *percentiles: float) -> list[float]:
        """Percentiles of `infer_ms`; NaN if nothing was predicted."""
        times = self.infer_ms if len(self.infer_ms) else [np.nan]
        return [float(value) for value in np.percentile(times, percentiles)]

    def by_seed(self) -> dict[int, bool]:
        """Success by seed, for `statistics.compare`."""
        return {trial.seed: trial.success for trial in self.trials}

    def rows(self, cell: dict[str, Any], command: str = "") -> list[dict[str, Any]]:
        """Rows for `docs/results/NAME.json`, one per metric; what no trial measured is left out."""
        metrics = {"success": self.success, "wrong_object": self.wrong_object, "cycle_seconds": self.cycle_seconds,
                   "latency_ms": self.mean_latency_ms}
        return self.rows_of({name: rate for name, rate in metrics.items() if rate.n}, cell, command)

    def rows_of(self, metrics: Mapping[str, Rate], cell: dict[str, Any], command: str = "") -> list[dict[str, Any]]:
        """Rows of these metrics, whatever they are, measured in these trials."""
        common = {"seeds": sorted({trial.seed for trial in self.trials}), "recipe": self.setting.recipe, "command": command}
        return [{"cell": cell, "metric": name, **rate.to_dict(), **common} for name, rate in metrics.items()]


def pool(results: Sequence[EvaluationResult]) -> EvaluationResult:
    """The trials of several policies as of one: the training seeds of a recipe. A scene is in it once for each of them."""
    recipe = "+".join(result.setting.recipe for result in results)
    trials = tuple(trial for result in results for trial in result.trials)
    return EvaluationResult(replace(results[0].setting, recipe=recipe), trials, {})


def evaluate(policy: str | Path, robot: dict[str, Any], seeds: Iterable[int], *, out: Path | str, workers: int = 1,
             execute: int | None = None, max_steps: int | None = None, films: Collection[int] = (),
             progress: bool = True, execution: str = "synchronous", delay: int = 0) -> EvaluationResult:
    """Run one trial per seed.

    Args:
        policy: a policy folder, a `ws://` address, or `module:Class` (see `vla.evaluate.drivers`).
        robot: `{"kind": …, **options}`.
        out: JSON-lines file of trials; seeds already in it are not run again.
        execute: actions of each chunk carried out; None is what the policy's recipe says, and so for `max_steps`,
            a limit below the robot's own.
        films: seeds to film, into `OUT-films/SEED.mp4`.
        progress: show a bar with the running success on stderr.
        execution, delay: how chunks follow one another and how many steps late each is (see `run_episode`).

    Raises:
        UserError: see the module's description.
        vla.workers.WorkerError: a trial crashed; the message names its seed.
    """
    seeds = sorted(set(seeds))
    source = find(policy)
    simulator = make_robot(robot)
    spec = simulator.spec
    simulator.close()
    if source.spec is not None:
        require_compatible(source.spec, spec, thing=f"policy '{policy}'")
    execute, max_steps = execute or source.execute, max_steps or source.evaluation.max_steps
    setting = Setting(source.hash, source.recipe, spec.hash, robot, execute, max_steps, execution, delay)
    file = TrialFile(out, setting)
    film_paths = {seed: film_path(out, seed) for seed in seeds if seed in set(films)}
    todo = [seed for seed in seeds if seed not in file.trials or (seed in film_paths and not film_paths[seed].exists())]
    with _bar(progress) as bar:
        task = bar.add_task("trials", total=len(seeds), completed=len(seeds) - len(todo), running=_running(file, seeds))
        jobs = parallel(trial_runner, (source, setting, film_paths), todo, workers=workers, noun="seed")
        for seed, trial in jobs:
            if seed in file.trials:
                _require_same(file.trials[seed], trial, file.path)
            else:
                file.append(trial)
            bar.update(task, advance=1, running=_running(file, seeds))
    return EvaluationResult(setting, tuple(file.trials[seed] for seed in seeds), film_paths)


def film_path(out: Path | str, seed: int) -> Path:
    out = Path(out)
    return out.with_name(f"{out.stem}-films") / f"{seed}.mp4"


def _require_same(stored: Trial, again: Trial, path: Path) -> None:
    """A trial that was run again for its film must have gone as it did the first time."""
    for name in ("instruction", "success", "steps"):
        if getattr(stored, name) != getattr(again, name):
            was, now = getattr(stored, name), getattr(again, name)
            raise UserError(f"{path}, seed {stored.seed}", f"its {name} was {was!r} and is now {now!r}", "the same trial again",
                            "delete the file and evaluate anew: the simulator or a package has changed since")


def _running(file: TrialFile, seeds: list[int]) -> str:
    done = [file.trials[seed].success for seed in seeds if seed in file.trials]
    return f"success {percent(rate_of(done))}" if done else ""


def _bar(shown: bool) -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[running]}"),
                    TimeRemainingColumn(), console=Console(stderr=True), disable=not shown)

"""The main job from beginning to end, as plain code: demonstrations → policy → trials → a served policy drives the robot.

    runs/demo/data/          demonstrations of the scripted expert
    runs/demo/policy/        what training made of them
    runs/demo/*.jsonl        every trial: `test` in this process' workers, `untrained`, `served` through the server
    runs/demo/report.html    the table, curves, frames; `rollouts.mp4`; `summary.json`; `results.json` (rows for docs/results)

Every stage goes on where it stopped, so the command may be killed and given again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from robot_io import RobotSpec
from vla.collect import collect
from vla.data import Demonstrations
from vla.evaluate.drivers import preload
from vla.evaluate.evaluate import EvaluationResult, evaluate
from vla.evaluate.seeds import seeds
from vla.evaluate.statistics import compare, percent
from vla.files import write_json
from vla.policy import Policy
from vla.recipe import Recipe, load_recipe
from vla.report import Story, summary, write_report
from vla.results import save_rows
from vla.train import train

NOISE = 0.05
"""Chance per step that the expert is disturbed while it demonstrates."""
SERVED_TRIALS = 50
"""At most so many trials through the server: it has one policy, so its clients take turns."""
FILMS, FILMED_FAILURES = 12, 4


def demo(run: Path | str, *, recipe: str = "demo", overrides: Sequence[str] = (), episodes: int = 100, trials: int = 100,
         workers: int = 2, console: Console | None = None) -> dict[str, Any]:
    """Do all of it; returns what `summary.json` holds."""
    run, console = Path(run), console or Console()
    preload()
    resolved = load_recipe(recipe, [f"data.root={run / 'data'}", *overrides])
    robot, stage = resolved.robot, Stages(run / "stages.json", console)
    scenes = seeds("test", trials)

    with stage("collect"):
        collect(robot, run / "data", episodes=episodes, noise=NOISE, workers=workers)
    with stage("train"):
        trained_policy = train(resolved, run)
    with stage("evaluate"):
        trained = evaluate(trained_policy.policy_dir, robot, scenes, out=run / "test.jsonl", workers=workers,
                           films=scenes[:FILMS])
    with stage("untrained"):
        untrained_dir = save_untrained(resolved, run / "untrained")
        untrained = evaluate(untrained_dir, robot, scenes, out=run / "untrained.jsonl", workers=workers)
    with stage("served"), serving(trained_policy.policy_dir, run / "server.log") as url:
        served = evaluate(url, robot, scenes[:SERVED_TRIALS], out=run / "served.jsonl", workers=1)
    with stage("films"):
        trained = evaluate(trained_policy.policy_dir, robot, scenes, out=run / "test.jsonl", workers=workers,
                           films=worth_filming(trained))

    evaluations = {"trained": trained, "untrained": untrained, "served": served}
    command = _command(run, recipe, overrides, episodes, trials)
    with stage("report"):
        write_report(run, _story(run, resolved, evaluations, stage.seconds, command, episodes))
    rows = [row for name, result in evaluations.items() for row in result.rows({"policy": name}, command)]
    save_rows(run / "results.json", rows)
    numbers = summary(**evaluations, train_seconds=trained_policy.seconds, total_seconds=stage.total)
    write_json(run / "summary.json", numbers)
    _show(console, run, evaluations, numbers, stage.seconds)
    return numbers


@dataclass
class Stages:
    """Announces and times the stages; `seconds` survives in a file, so a resumed demo still knows what it cost."""

    path: Path
    console: Console
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path.exists():
            self.seconds = json.loads(self.path.read_text())

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.console.rule(name, align="left")
        began = time.perf_counter()
        yield
        took = time.perf_counter() - began
        self.seconds[name] = self.seconds.get(name, 0.0) + took
        write_json(self.path, self.seconds)
        self.console.print(f"{name}: {took:.0f} s", style="dim")


def save_untrained(recipe: Recipe, folder: Path) -> Path:
    """The same recipe after zero steps: what the numbers would be without any learning from demonstrations."""
    if not folder.exists():
        demonstrations = Demonstrations(recipe)
        Policy.build(recipe, demonstrations.spec, demonstrations.normalizer()).save(folder)
    return folder


@contextmanager
def serving(policy: Path, log: Path) -> Iterator[str]:
    """`vla serve` in a process of its own, which loads the policy from its folder; yields the address."""
    command = [sys.executable, "-m", "vla.cli", "serve", str(policy), "--port", "0", "--json"]
    with log.open("a") as errors, subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as server:
        try:
            announced = server.stdout.readline()
            if not announced:
                raise RuntimeError(f"the policy server did not start; its log {log} ends with:\n{log.read_text()[-2000:]}")
            yield json.loads(announced)["url"]
        finally:
            server.terminate()


def worth_filming(result: EvaluationResult) -> list[int]:
    """Seeds to show: some failures, to learn from, and successes. Mostly among the first `FILMS`, which are filmed anyway."""
    failures = [trial.seed for trial in result.trials if not trial.success][:FILMED_FAILURES]
    successes = [trial.seed for trial in result.trials if trial.success]
    return failures + successes[:FILMS - len(failures)]


def _story(run: Path, recipe: Recipe, evaluations: dict[str, EvaluationResult], seconds: dict[str, float], command: str,
           episodes: int) -> Story:
    """What the report tells."""
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    curves = {name: [(row["step"], row[key]) for row in log if key in row]
              for name, key in (("training", "loss"), ("validation", "val_loss"))}
    spec = RobotSpec.from_dict(json.loads((run / "policy" / "spec.json").read_text()))
    trials = evaluations["trained"].success.n
    return Story(
        title=f"{recipe.name}: {trials} unseen scenes", rate_hz=spec.action.rate_hz, evaluations=evaluations,
        subtitle=f"{spec.robot}, {episodes} demonstrations, {recipe.train.steps} training steps, recipe {recipe.hash}; "
                 f"{date.today()}, {os.cpu_count()} cores",
        curves={name: curve for name, curve in curves.items() if curve}, timings=seconds, commands=[command],
        recipe=recipe.to_yaml(),
    )


def _command(run: Path, recipe: str, overrides: Sequence[str], episodes: int, trials: int) -> str:
    """The command line that does the same, its defaults left out."""
    given = {"run": run, "recipe": recipe, "episodes": episodes, "trials": trials}
    usual = {"run": Path("runs/demo"), "recipe": "demo", "episodes": 100, "trials": 100}
    return " ".join(["vla demo", *overrides, *(f"--{name} {value}" for name, value in given.items() if value != usual[name])])


def _show(console: Console, run: Path, evaluations: dict[str, EvaluationResult], numbers: dict[str, Any],
          seconds: dict[str, float]) -> None:
    """The table at the end."""
    table = Table("policy", "success, %", "wrong object, %", "trials", "cycle, s", "latency, ms", box=None, padding=(0, 2, 0, 0))
    for name, result in evaluations.items():
        cycle = f"{result.cycle_seconds.mean:.1f}" if result.success.mean else "–"
        shares = (percent(share).replace(" %", "") for share in (result.success, result.wrong_object))
        table.add_row(name, *shares, str(result.success.n), cycle, "{:.0f} / {:.0f}".format(*result.latency_ms(50, 99)))
    console.rule("unseen scenes, 95 % intervals; latency p50 / p99", align="left")
    console.print(table)
    served, local = evaluations["served"].by_seed(), evaluations["trained"].by_seed()
    pairs = compare(served, {seed: local[seed] for seed in served})
    console.print(f"served and in-process policy agree on {pairs.both + pairs.neither} of {len(served)} scenes")
    console.print(f"training {numbers['train_seconds']:.0f} s, everything {numbers['total_seconds']:.0f} s: "
                  + ", ".join(f"{name} {took:.0f}" for name, took in seconds.items()))
    console.print(f"look at {run / 'report.html'} and {run / 'rollouts.mp4'}")

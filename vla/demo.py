"""The main job from beginning to end, as plain code: demonstrations → two policies → trials → a served policy drives the robot.

The demonstrations are clean: one object on the table. What is asked then is which perception still works when the table is full.
Every policy is trained on the same demonstrations and tried on the same unseen scenes in every condition.

    runs/demo/data/          demonstrations of the scripted expert
    runs/demo/policy/        what training made of them; `NAME/policy/` for every other variant
    runs/demo/*.jsonl        every trial: VARIANT-CONDITION, `untrained`, `served` (through the server)
    runs/demo/report.html    the table, curves, frames; `rollouts.mp4`; `summary.json`; `results.json` (rows for docs/results)

Every stage goes on where it stopped, so the command may be killed and given again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
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
from vla.files import slug, write_json
from vla.overrides import apply_overrides
from vla.policy import Policy
from vla.recipe import Recipe, load_recipe
from vla.report import Story, summary, write_report
from vla.results import save_rows
from vla.train import TrainResult, train

NOISE = 0.05
"""Chance per step that the expert is disturbed while it demonstrates."""
SERVED_TRIALS = 50
"""At most so many trials through the server: it has one policy, so its clients take turns."""
UNTRAINED_TRIALS = 40
FILMS, FILMED_FAILURES = 12, 4

VARIANTS = {"grounded": "grounded", "raw RGB": "raw"}
"""Preset by the name that the table shows. The first is what the demo is about: it is served and filmed."""
CONDITIONS = {"clean": (), "5 distractors": ("robot.task.distractors=5",)}
"""Changes of the robot by the name that the table shows."""


def demo(run: Path | str, *, overrides: Sequence[str] = (), variants: Mapping[str, str] = VARIANTS,
         conditions: Mapping[str, Sequence[str]] = CONDITIONS, episodes: int = 100, trials: int = 100, workers: int = 2,
         console: Console | None = None) -> dict[str, Any]:
    """Do all of it; returns what `summary.json` holds."""
    run, console = Path(run), console or Console()
    preload()
    recipes = {name: load_recipe(preset, [f"data.root={run / 'data'}", *overrides]) for name, preset in variants.items()}
    main = next(iter(recipes))
    robots = {name: apply_overrides({"robot": recipes[main].robot}, changes)["robot"] for name, changes in conditions.items()}
    plain = next(iter(robots.values()))
    stage, scenes = Stages(run / "stages.json", console), seeds("test", trials)

    with stage("collect"):
        collect(recipes[main].robot, run / "data", episodes=episodes, noise=NOISE, workers=workers)
    trained: dict[str, TrainResult] = {}
    for name, recipe in recipes.items():
        with stage(f"train {name}"):
            trained[name] = train(recipe, _folder(run, name, main))
    evaluations: dict[str, EvaluationResult] = {}
    for name, result in trained.items():
        for condition, robot in robots.items():
            with stage(f"evaluate {name}"):
                evaluations[f"{name}, {condition}"] = evaluate(
                    result.policy_dir, robot, scenes, out=run / f"{slug(name)}-{slug(condition)}.jsonl", workers=workers)
    with stage("untrained"):
        evaluations["untrained"] = evaluate(save_untrained(recipes[main], run / "untrained"), plain, scenes[:UNTRAINED_TRIALS],
                                            out=run / "untrained.jsonl", workers=workers)
    with stage("served"), serving(trained[main].policy_dir, run / "server.log") as url:
        evaluations["served"] = evaluate(url, plain, scenes[:SERVED_TRIALS], out=run / "served.jsonl", workers=1)
    crowded, crowd = list(robots.items())[-1]
    with stage("films"):
        told = f"{main}, {crowded}"
        evaluations[told] = evaluate(trained[main].policy_dir, crowd, scenes, out=run / f"{slug(main)}-{slug(crowded)}.jsonl",
                                     workers=workers, films=worth_filming(evaluations[told]))

    command = _command(run, overrides, episodes, trials)
    seconds = {name: result.seconds for name, result in trained.items()}
    with stage("report"):
        write_report(run, _story(run, recipes, evaluations, told, stage.seconds, command, episodes))
    rows = [row for name, result in evaluations.items() for row in result.rows(_cell(name), command)]
    save_rows(run / "results.json", rows)
    numbers = summary(evaluations, main=next(iter(evaluations)), train_seconds=seconds[main], total_seconds=stage.total)
    write_json(run / "summary.json", numbers)
    _show(console, run, evaluations, seconds, stage)
    return numbers


def _folder(run: Path, name: str, main: str) -> Path:
    """A variant's run: the demo's own folder for the one that it is about."""
    return run if name == main else run / slug(name)


def _cell(name: str) -> dict[str, str]:
    policy, _, condition = name.partition(", ")
    return {"policy": policy, "scene": condition or "clean"}


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


def _story(run: Path, recipes: Mapping[str, Recipe], evaluations: dict[str, EvaluationResult], told: str,
           seconds: dict[str, float], command: str, episodes: int) -> Story:
    """What the report tells; its films are those of the evaluation `told`."""
    main, recipe = next(iter(recipes.items()))
    curves = {}
    for name in recipes:
        log = [json.loads(line) for line in (_folder(run, name, main) / "metrics.jsonl").read_text().splitlines()]
        for kind, key in (("training", "loss"), ("validation", "val_loss")):
            if curve := [(row["step"], row[key]) for row in log if key in row]:
                curves[f"{name}, {kind}"] = curve
    spec = RobotSpec.from_dict(json.loads((run / "policy" / "spec.json").read_text()))
    return Story(
        title=f"{' against '.join(recipes)}: {evaluations[told].success.n} unseen scenes", rate_hz=spec.action.rate_hz,
        evaluations=evaluations, told=told, curves=curves, timings=seconds, commands=[command], recipe=recipe.to_yaml(),
        subtitle=f"{spec.robot}, {episodes} demonstrations with one object on the table, {recipe.train.steps} training steps, "
                 f"recipe {recipe.hash}; {date.today()}, {os.cpu_count()} cores",
    )


def _command(run: Path, overrides: Sequence[str], episodes: int, trials: int) -> str:
    """The command line that does the same, its defaults left out."""
    given = {"run": run, "episodes": episodes, "trials": trials}
    usual = {"run": Path("runs/demo"), "episodes": 100, "trials": 100}
    return " ".join(["vla demo", *overrides, *(f"--{name} {value}" for name, value in given.items() if value != usual[name])])


def _show(console: Console, run: Path, evaluations: dict[str, EvaluationResult], train_seconds: Mapping[str, float],
          stage: Stages) -> None:
    """The table at the end."""
    table = Table("policy", "success, %", "wrong object, %", "trials", "cycle, s", "latency, ms", box=None, padding=(0, 2, 0, 0))
    for name, result in evaluations.items():
        cycle = f"{result.cycle_seconds.mean:.1f}" if result.success.mean else "–"
        shares = (percent(share).replace(" %", "") for share in (result.success, result.wrong_object))
        table.add_row(name, *shares, str(result.success.n), cycle, "{:.0f} / {:.0f}".format(*result.latency_ms(50, 99)))
    console.rule("unseen scenes, 95 % intervals; latency p50 / p99", align="left")
    console.print(table)
    served, local = evaluations["served"].by_seed(), next(iter(evaluations.values())).by_seed()
    pairs = compare(served, {seed: local[seed] for seed in served})
    console.print(f"served and in-process policy agree on {pairs.both + pairs.neither} of {len(served)} scenes")
    training, stages = (", ".join(f"{name} {took:.0f} s" for name, took in times.items()) for times in (train_seconds, stage.seconds))
    console.print(f"training {training}; everything {stage.total:.0f} s: {stages}")
    console.print(f"look at {run / 'report.html'} and {run / 'rollouts.mp4'}")

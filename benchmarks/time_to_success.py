"""How soon each head works: success on validation scenes along one training of the grid `heads`.

    python benchmarks/time_to_success.py --data DATA [--only 'flow, MLP'] [--steps 50 100 200 300 400]

Trains a cell as `vla ablate heads` does, keeps the policy (averaged weights) at each of `--steps`, and evaluates all of them on the same
validation scenes. Everything is resumed, so cells may be run one by one. Writes `docs/results/heads_learning.json` from whatever is there
(`--report`: from that alone). `--cost` turns steps into seconds: it times training steps of all cells in turn (CPU milliseconds of one thread,
perception cached), and writes `docs/results/heads_time.json`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from robot_io import UserError
from vla.ablate import Cell
from vla.evaluate.drivers import find, make_robot, open_driver, preload
from vla.evaluate.episode import run_episode
from vla.evaluate.evaluate import EvaluationResult
from vla.evaluate.seeds import seeds
from vla.evaluate.statistics import Rate, mean_of, percent
from vla.evaluate.trials import Setting, TrialFile
from vla.grids.heads import heads
from vla.recipe import Recipe
from vla.results import Row, load_rows, save_rows
from vla.sealed import check_seal
from vla.train.display import Display
from vla.train.loop import Trainer
from vla.train.run import Run

COMMAND = "python benchmarks/time_to_success.py --data DATA"
ENOUGH = 0.8


class Watched(Trainer):
    """Training that keeps the policy as it is after some of its steps."""

    marks: Sequence[int] = ()

    def advance(self, step: int) -> dict[str, torch.Tensor]:
        logged = super().advance(step)
        if step + 1 in self.marks and not kept(self.run.folder, step + 1):
            with self.state.ema.applied():
                self.policy.eval().save(snapshot(self.run.folder, step + 1))
        return logged


def snapshot(folder: Path, step: int) -> Path:
    return folder / f"policy-{step:06d}"


def kept(folder: Path, step: int) -> bool:
    try:
        check_seal(snapshot(folder, step), "policy")
    except UserError:
        return False
    return True


def train(recipe: Recipe, folder: Path, marks: Sequence[int]) -> None:
    """Up to the last mark, or from the last checkpoint on if it was interrupted."""
    if all(kept(folder, step) for step in marks):
        return
    with Display(True) as display:
        trainer = Watched(recipe, Run(recipe, folder), display)
        trainer.marks = marks
        trainer.fit()


def trial_file(recipe: Recipe, folder: Path, step: int) -> TrialFile:
    source = find(snapshot(folder, step))
    robot = make_robot(recipe.robot)
    setting = Setting(source.hash, source.recipe, robot.spec.hash, recipe.robot, source.execute, None)
    robot.close()
    return TrialFile(folder / f"validation-{step:06d}.jsonl", setting)


def evaluate(recipe: Recipe, folder: Path, step: int, scenes: range) -> EvaluationResult:
    """In this process: starting another costs as much as ten trials."""
    preload()
    torch.set_num_threads(1)
    file, robot = trial_file(recipe, folder, step), make_robot(recipe.robot)
    driver = open_driver(find(snapshot(folder, step)), robot)
    for seed in (seed for seed in scenes if seed not in file.trials):
        file.append(run_episode(robot, driver, seed=seed, execute=file.setting.execute))
    return result_of(file, scenes)


def result_of(file: TrialFile, scenes: range) -> EvaluationResult:
    return EvaluationResult(file.setting, tuple(file.trials[seed] for seed in scenes if seed in file.trials), {})


def rows_of(cell: Cell, recipe: Recipe, folder: Path, steps: Sequence[int], scenes: range) -> list[Row]:
    """Success at every step of which all scenes were run."""
    results = {step: result_of(trial_file(recipe, folder, step), scenes) for step in steps if kept(folder, step)}
    return [row for step, result in results.items() if len(result.trials) == len(scenes)
            for row in result.rows_of({"success": result.success}, cell.levels | {"steps": str(step)}, COMMAND)]


class Clocked(Trainer):
    """Training of which single steps are timed."""

    def step_ms(self) -> float:
        self._open_pictures()
        began = time.process_time()
        self.advance(0)
        return 1e3 * (time.process_time() - began)


def step_costs(runs: Sequence[tuple[Cell, Recipe, Path]], repeats: int) -> list[Rate]:
    """CPU milliseconds of a training step of each, after one that warms up."""
    with TemporaryDirectory() as scratch, Display(False) as display:
        trainers = [Clocked(recipe, Run(recipe, Path(scratch) / recipe.hash), display) for _, recipe, _ in runs]
        times = [[trainer.step_ms() for trainer in trainers] for _ in range(repeats + 1)]
    return [mean_of(each) for each in zip(*times[1:], strict=True)]


def seconds_to(enough: float, cell: Cell, learning: Sequence[Row], step_ms: Rate) -> list[Row]:
    """When the first policy that was kept succeeds in as many of its trials; nothing but the cost of a step if none does."""
    tried = {int(row["cell"]["steps"]): row for row in learning if row["cell"] == cell.levels | {"steps": row["cell"]["steps"]}}
    reached = next((steps for steps in sorted(tried) if tried[steps]["mean"] >= enough), None)
    found = {"step_ms": step_ms}
    if reached is not None:
        found["steps_to_80"] = Rate(reached, reached, reached, tried[reached]["n"])
        found["seconds_to_80"] = Rate(*(reached * ms / 1e3 for ms in (step_ms.mean, step_ms.low, step_ms.high)), step_ms.n)
    return [{"cell": cell.levels, "metric": metric, **rate.to_dict(), "seeds": [], "recipe": "", "command": f"{COMMAND} --cost"}
            for metric, rate in found.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", action="append", default=[], help="label of a cell; all that are not distilled if left out")
    parser.add_argument("--steps", type=int, nargs="+", default=[50, 100, 200, 300, 400])
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--run", type=Path, default=Path("runs/time_to_success"))
    parser.add_argument("--report", action="store_true", help="run nothing: tell what has been run")
    parser.add_argument("--cost", type=int, metavar="STEPS", help="train nothing: time as many training steps of every cell")
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    grid, scenes = heads(), seeds("validation", arguments.trials)
    runs = [(cell, recipe, arguments.run / recipe.hash) for cell in grid.cells if cell.student is None
            for recipe in [grid.resolve(cell, 0, arguments.data)]]
    table = arguments.results / "heads_learning.json"
    if arguments.cost:
        learning = load_rows(table) if table.is_file() else []
        costs = zip(runs, step_costs(runs, arguments.cost), strict=True)
        save_rows(arguments.results / "heads_time.json", [row for (cell, _, _), ms in costs for row in seconds_to(ENOUGH, cell, learning, ms)])
        return
    chosen = [cell.label for cell in grid.chosen(arguments.only)]
    for cell, recipe, folder in [] if arguments.report else [run for run in runs if run[0].label in chosen]:
        train(recipe, folder, arguments.steps)
        for step in arguments.steps:
            print(f"{cell.label}, {step} steps: {percent(evaluate(recipe, folder, step, scenes).success)}", flush=True)
    save_rows(table, [row for cell, recipe, folder in runs for row in rows_of(cell, recipe, folder, arguments.steps, scenes)])


if __name__ == "__main__":
    main()

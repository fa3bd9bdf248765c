"""An ablation: named cells (overrides of one recipe) × training seeds → policies → closed-loop trials → one table.

    grid = Grid("backbones", "pick", cells=(Cell({"tuning": "LoRA"}, ("tuning.mode=lora",)), …), seeds=(0, 1))
    rows = ablate(grid, "runs/ablations", demonstrations="runs/demo/data")

Every (cell, seed) is a run of its own in `ROOT/HASH`, named by its recipe's hash: cells of different grids that are the same
recipe are trained once, frozen perception is cached between them, and a killed ablation goes on where it stopped. All
cells see the same scenes. A row of the table pools the trials of a cell's training seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robot_io import UserError
from robot_io.errors import nearest
from vla.distill import distill
from vla.evaluate.evaluate import EvaluationResult, evaluate, pool
from vla.evaluate.seeds import seeds as scenes_of
from vla.evaluate.statistics import mean_of
from vla.policy import Policy
from vla.recipe import Recipe, load_recipe
from vla.results import Row, save_rows
from vla.train import train
from vla.tuning import parts
from vla.workers import elsewhere, parallel


@dataclass(frozen=True)
class Cell:
    """One variant.

    Attributes:
        levels: what the table calls it, factor → level.
        overrides: of the recipe.
        opened: overrides with which the trained policy is opened (`Policy.load`): cells that differ in nothing else share its weights.
        student: if not None, the policy is distilled into one step (`vla.distill`) with these overrides, and the student evaluated.
    """

    levels: dict[str, str]
    overrides: tuple[str, ...] = ()
    opened: tuple[str, ...] = ()
    student: tuple[str, ...] | None = None

    @property
    def label(self) -> str:
        return ", ".join(self.levels.values())


@dataclass(frozen=True)
class Quick:
    """What a grid's quick mode puts in the place of its own figures: to see that everything runs, and roughly where things stand."""

    overrides: tuple[str, ...] = ("train.steps=100",)
    seeds: tuple[int, ...] = (0,)
    trials: int = 12


@dataclass(frozen=True)
class Grid:
    """What is compared.

    Attributes:
        recipe: preset or YAML file that every cell changes.
        common: overrides of every cell.
        seeds: training seeds of every cell.
        trials: scenes each trained policy is evaluated on, the first of `split`.
        quick: see `quickly`.
    """

    name: str
    recipe: str
    cells: tuple[Cell, ...]
    common: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1)
    trials: int = 100
    split: str = "test"
    quick: Quick = Quick()

    def quickly(self) -> Grid:
        """The same cells with less training and fewer trials, under a name of its own."""
        quick = self.quick
        return replace(self, name=f"{self.name}-quick", common=(*self.common, *quick.overrides), seeds=quick.seeds, trials=quick.trials)

    def resolve(self, cell: Cell, seed: int, demonstrations: Path | str | None = None) -> Recipe:
        data = () if demonstrations is None else (f"data.root={demonstrations}",)
        return load_recipe(self.recipe, [*self.common, *cell.overrides, f"train.seed={seed}", f"name={self.name}", *data])

    def chosen(self, only: Sequence[str]) -> tuple[Cell, ...]:
        """The cells with these labels; all of them if none is named."""
        labels = [cell.label for cell in self.cells]
        for name in only:
            if name not in labels:
                raise UserError(f"cell '{name}'", f"not in grid '{self.name}'", nearest(name, labels), "name one of its cells")
        return tuple(cell for cell in self.cells if not only or cell.label in only)


@dataclass(frozen=True)
class Outcome:
    """What became of one (cell, seed). `trainable` counts parameters; `megabytes` is what weights, gradients and optimiser need
    while training (see `vla.tuning.parts`)."""

    cell: Cell
    seed: int
    recipe: Recipe
    train_seconds: float
    trainable: int
    megabytes: float
    result: EvaluationResult


@dataclass(frozen=True)
class Job:
    """A (cell, seed) and its recipe."""

    cell: Cell
    seed: int
    recipe: Recipe

    def __str__(self) -> str:
        return f"{self.cell.label}, seed {self.seed}"


class Share(tuple[Job, ...]):
    """Jobs of one recipe, and so of one run."""

    def __str__(self) -> str:
        return "; ".join(map(str, self))


def run(grid: Grid, root: Path | str, *, demonstrations: Path | str | None = None, only: Sequence[str] = (), workers: int = 1,
        say: Callable[[str], None] = lambda _: None) -> Iterator[Outcome]:
    """Train and evaluate, cell after cell, seed after seed; what is on disk already is not done again.

    On Ray (`vla.ray_workers`) whole recipes are handed out, `workers` at a time, in the order in which they end; here `workers` evaluate.

    Raises:
        UserError: any cell's recipe or data is bad; all recipes are resolved before the first is trained.
    """
    cells = grid.chosen(only)
    jobs = [Job(cell, seed, grid.resolve(cell, seed, demonstrations)) for seed in grid.seeds for cell in cells]
    if elsewhere():
        shares: dict[str, Share] = {}
        for job in jobs:
            shares[job.recipe.hash] = Share((*shares.get(job.recipe.hash, ()), job))
        for share, outcomes in parallel(trainer, (grid, root, 1, False), shares.values(), workers=workers, noun="cell"):
            say(str(share))
            yield from outcomes
        return
    work = trainer(grid, root, workers, True)
    for job in jobs:
        say(f"{job}: {Path(root) / job.recipe.hash}")
        yield from work((job,))


def trainer(grid: Grid, root: Path | str, workers: int, progress: bool) -> Callable[[Sequence[Job]], list[Outcome]]:
    """For `vla.workers.parallel`: jobs → what became of them."""

    def work(jobs: Sequence[Job]) -> list[Outcome]:
        return [_outcome(grid, job, Path(root) / job.recipe.hash, workers, progress) for job in jobs]

    return work


def _outcome(grid: Grid, job: Job, folder: Path, workers: int, progress: bool) -> Outcome:
    cell, recipe = job.cell, job.recipe
    trained = train(recipe, folder, progress=progress)
    if cell.student is not None:
        folder = folder / "student"
        trained = distill(trained.policy_dir, folder, cell.student)
    result = evaluate("#".join([str(trained.policy_dir), *cell.opened]), recipe.robot, scenes_of(grid.split, grid.trials),
                      workers=workers, out=folder / f"{'-'.join([grid.split, *cell.opened])}.jsonl", progress=progress)
    inventory = parts(Policy.load(trained.policy_dir), recipe.train)
    return Outcome(cell, job.seed, recipe, trained.seconds, sum(part.trainable for part in inventory),
                   sum(part.megabytes for part in inventory), result)


def table(outcomes: Sequence[Outcome], command: str) -> list[Row]:
    """Rows for `docs/results`: per cell its trials of all training seeds together, and what training took."""
    rows = []
    for cell in dict.fromkeys(outcome.cell.label for outcome in outcomes):
        same = [outcome for outcome in outcomes if outcome.cell.label == cell]
        pooled = pool([outcome.result for outcome in same])
        metrics = {"success": pooled.success, "wrong_object": pooled.wrong_object, "cycle_seconds": pooled.cycle_seconds,
                   "jerk_permille": pooled.jerk_permille, "latency_ms": pooled.mean_latency_ms,
                   "latency_per_action_ms": pooled.latency_per_action_ms,
                   "trainable_thousands": mean_of([outcome.trainable / 1e3 for outcome in same]),
                   "train_memory_mb": mean_of([outcome.megabytes for outcome in same]),
                   "train_seconds": mean_of([outcome.train_seconds for outcome in same])}
        levels = same[0].cell.levels | {"training seeds": str(len(same))}
        rows += pooled.rows_of({name: rate for name, rate in metrics.items() if rate.n}, levels, command)
        for outcome in same:
            rows += outcome.result.rows_of({f"success_seed_{outcome.seed}": outcome.result.success}, levels, command)
    return rows


def ablate(grid: Grid, root: Path | str, *, out: Path | str | None = None, command: str = "", **options: Any) -> list[Row]:
    """`run` everything; after every cell the rows so far are in `out` (default `ROOT/NAME.json`) and the page in `ROOT/NAME.html`."""
    from vla.ablation import write_page  # it is made of this module's outcomes

    outcomes: list[Outcome] = []
    rows: list[Row] = []
    for outcome in run(grid, root, **options):
        outcomes.append(outcome)
        outcomes.sort(key=lambda outcome: grid.cells.index(outcome.cell))  # whichever ended first
        rows = table(outcomes, command)
        save_rows(out or Path(root) / f"{grid.name}.json", rows)
        write_page(grid, outcomes, Path(root) / f"{grid.name}.html", command=command)
    return rows

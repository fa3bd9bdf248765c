"""Chunked offline RL against imitation on the tabletop, from demonstrations of uneven quality.

    python benchmarks/chunked_rl.py --run runs/chunked_rl            # everything; goes on where it stopped
    python benchmarks/chunked_rl.py --run runs/chunked_rl --only co_rft --seeds 1 --trials 30 --split validation

The demonstrator (`Uneven`) is good or bad by the episode: at full or half speed, with a steady or an unsteady hand, and what is recorded
is what was done. Some of its episodes fail. Imitation learns from those that succeed, reinforcement learning from all of them.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robot_io import ActionChunk, Observation
from robot_io.tabletop.expert import SPEED, Expert
from robot_io.tabletop.robot import TabletopRobot
from vla.collect import collect
from vla.evaluate.evaluate import EvaluationResult, evaluate, pool
from vla.evaluate.seeds import seeds as scenes_of
from vla.recipe import load_recipe
from vla.results import Row, save_rows
from vla.rl.loop import learn
from vla.rl.recipe import load_rl_recipe
from vla.train import train

ROBOT = {"kind": "tabletop", "task": {"distractors": 0, "pairs": "seen"}}
EPISODES = 60
OUT = Path("docs/results/chunked_rl.json")


class Uneven(Expert):
    """The scripted expert on a good or a bad day, decided by the episode's seed. It records what it does, not what is right."""

    def __init__(self, robot: TabletopRobot) -> None:
        super().__init__(robot)

    def reset(self, seed: int = 0) -> None:
        super().reset(seed)
        day = np.random.default_rng([seed, 7])
        self.speed = SPEED * day.choice([0.5, 1.0])
        self.noise = float(day.choice([0.0, 0.15]))

    def infer(self, observation: Observation | None = None) -> ActionChunk:
        _, done = self.decide()
        return ActionChunk(done[None], self.robot.spec.action, float(self.robot.data.time))


@dataclass(frozen=True)
class Cell:
    """A row of the table. `init` names the cell it begins with; imitation begins with none."""

    name: str
    preset: str
    overrides: tuple[str, ...] = ()
    init: str | None = None


FROM = ("train.steps=600", "train.batch_size=32", "train.save_every=200")
REGRESSION = ("head.kind=regression", "head.trunk={kind: fc, width: 256}")

CELLS = (
    Cell("imitation, diffusion", "raw", FROM),
    Cell("+ imitation", "imitate", (), "imitation, diffusion"),
    Cell("+ Q-chunking, best of 32", "q_chunking", (), "imitation, diffusion"),
    Cell("+ 1-step TD, best of 32", "one_step_td", (), "imitation, diffusion"),
    Cell("+ n-step TD, best of 32", "n_step", (), "imitation, diffusion"),
    Cell("+ IQL, weighted regression", "iql", (), "imitation, diffusion"),
    Cell("imitation, regression", "raw", (*FROM, *REGRESSION)),
    Cell("+ imitation (regression)", "imitate", (), "imitation, regression"),
    Cell("+ CO-RFT", "co_rft", (), "imitation, regression"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/chunked_rl"))
    parser.add_argument("--only", nargs="*", help="cells by (part of) their name")
    parser.add_argument("--seeds", type=int, default=3, help="training seeds")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--split", default="test")
    parser.add_argument("--set", nargs="*", default=[], help="overrides of the RL recipes, for trying things on validation scenes")
    parser.add_argument("--tag", default="", help="added to the run folders' names")
    parser.add_argument("--out", type=Path, default=None, help="where the rows go; nowhere if left out")
    options = parser.parse_args()
    data = options.run / "data"
    collect(ROBOT, data, episodes=EPISODES, policy="benchmarks.chunked_rl:Uneven", workers=1)
    rows: list[Row] = []
    for cell in CELLS:
        if options.only and not any(part in cell.name for part in options.only):
            continue
        results = []
        for seed in range(options.seeds):
            folder = trained(cell, seed, options.run, data, options.set, options.tag)
            results.append(evaluate(folder / "policy", ROBOT, scenes_of(options.split, options.trials), workers=1,
                                    out=folder / f"{options.split}.jsonl"))
            print(f"{cell.name}, seed {seed}: {results[-1].success}, cycle {results[-1].cycle_seconds}", flush=True)
        rows += rows_of(cell, results)
    if options.out:
        save_rows(options.out, rows)


def trained(cell: Cell, seed: int, root: Path, data: Path, changes: list[str], tag: str) -> Path:
    """The run of one cell and training seed, made if it is not there."""
    folder = root / f"{name_of(cell)}-{seed}{tag if cell.init else ''}"
    if cell.init is None:
        train(load_recipe(cell.preset, [*cell.overrides, f"data.root={data}", f"train.seed={seed}"]),
              folder, progress=False)
    else:
        init = trained(next(other for other in CELLS if other.name == cell.init), seed, root, data, [], "")
        learn(load_rl_recipe(cell.preset, [*cell.overrides, f"optim.seed={seed}", *changes], data=[data], init=init), folder, progress=False)
    return folder


def name_of(cell: Cell) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in cell.name).strip("-")


def rows_of(cell: Cell, results: list[EvaluationResult]) -> list[Row]:
    pooled = pool(results)
    metrics = {"success": pooled.success, "cycle_seconds": pooled.cycle_seconds}
    return pooled.rows_of(metrics, {"policy": cell.name, "training seeds": str(len(results))}, "python benchmarks/chunked_rl.py")


if __name__ == "__main__":
    main()

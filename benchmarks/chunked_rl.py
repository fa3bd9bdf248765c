"""Chunked offline RL against imitation on the tabletop, from demonstrations of uneven quality.

    python benchmarks/chunked_rl.py --run runs/chunked_rl            # everything; goes on where it stopped
    python benchmarks/chunked_rl.py --only CO-RFT --seeds 1 --trials 30 --split validation --out /tmp/trying.json

The demonstrator (`Uneven`) is good or bad by the episode: at full or half speed, with a steady or an unsteady hand, and what is recorded
is what was done. Some of its episodes fail. Imitation learns from those that succeed, reinforcement learning from all of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from heads import HEADS
from robot_io import ActionChunk, Observation
from robot_io.tabletop.expert import SPEED, Expert
from robot_io.tabletop.robot import TabletopRobot
from vla.collect import collect
from vla.evaluate.evaluate import EvaluationResult, evaluate, pool
from vla.evaluate.seeds import seeds as scenes_of
from vla.evaluate.statistics import percent
from vla.policy import Policy
from vla.recipe import Recipe, load_recipe
from vla.results import Row, save_rows
from vla.rl.loop import learn, output_of
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
    """A row of the table: a preset, and the row that it begins with, with a new `head` if one is given.

    Imitation begins with none. Rows without reinforcement learning are trained once, the others once per seed.
    """

    name: str
    preset: str
    overrides: tuple[str, ...] = ()
    init: str | None = None
    head: dict[str, Any] | None = None
    once: bool = False


IMITATION = ("train.batch_size=32", "train.save_every=200")
REGRESSION = {"kind": "regression", "trunk": {"kind": "fc", "width": 256}}
SHORT = ("optim.steps=1000", "optim.batch_size=64", "optim.refresh=25", "optim.val_every=200", "optim.save_every=200", "critic.width=48",
         "optim.critic_learning_rate=1e-3")
"""What two busy cores can do: fixed beforehand, tuned for no row."""
DRAWING = "algorithm.bootstrap_draws=4"

CELLS = (
    Cell("imitation, diffusion", "raw", (*IMITATION, "train.steps=600"), once=True),
    Cell("imitation, regression", "imitate", ("optim.actor_learning_rate=1e-3", "optim.steps=800"), "imitation, diffusion", REGRESSION, once=True),
    Cell("diffusion + Q-chunking, best of 32", "q_chunking", (DRAWING,), "imitation, diffusion"),
    Cell("regression + CO-RFT", "co_rft", ("algorithm.actor_after=200",), "imitation, regression"),
    Cell("diffusion + 1-step TD, best of 32", "one_step_td", (DRAWING,), "imitation, diffusion"),
    Cell("diffusion + n-step TD, best of 32", "n_step", (DRAWING,), "imitation, diffusion"),
    Cell("diffusion + as much imitation", "imitate", (), "imitation, diffusion"),
    Cell("regression + as much imitation", "imitate", (), "imitation, regression"),
    Cell("diffusion + IQL, weighted regression", "iql", ("algorithm.actor_after=200",), "imitation, diffusion"),
)
"""The regression head is imitated on the backbone that imitation with the diffusion head has tuned: both see the same."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/chunked_rl"))
    parser.add_argument("--only", nargs="*", help="rows by a part of their name")
    parser.add_argument("--seeds", type=int, default=3, help="training seeds of the reinforcement-learning rows")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path, default=OUT, help="where the rows go")
    options = parser.parse_args()
    data = options.run / "data"
    collect(ROBOT, data, episodes=EPISODES, policy="benchmarks.chunked_rl:Uneven", workers=1)
    results: dict[str, list[EvaluationResult]] = {}
    for seed in range(options.seeds):
        for cell in CELLS:
            if (options.only and not any(part in cell.name for part in options.only)) or (cell.once and seed > 0):
                continue
            folder = trained(cell, seed, options.run, data)
            found = evaluate(folder / "policy", ROBOT, scenes_of(options.split, options.trials), out=folder / f"{options.split}.jsonl")
            results.setdefault(cell.name, []).append(found)
            print(f"{cell.name}, seed {seed}: {percent(found.success)}, cycle {found.cycle_seconds.mean:.2f} s", flush=True)
            save_rows(options.out, [row for name, done in results.items() for row in rows_of(name, done)])


def trained(cell: Cell, seed: int, root: Path, data: Path, *, imitation: Sequence[str] = (), rl: Sequence[str] = ()) -> Path:
    """The run of one row and training seed, made if it is not there; `imitation` and `rl` are further overrides of such recipes."""
    folder = root / f"{''.join(letter if letter.isalnum() else '-' for letter in cell.name).strip('-')}-{seed}"
    if cell.init is None:
        train(load_recipe(cell.preset, [*cell.overrides, f"data.root={data}", f"train.seed={seed}", *imitation]), folder, progress=False)
    else:
        first = next(other for other in CELLS if other.name == cell.init)
        init = trained(first, 0, root, data, imitation=imitation, rl=rl)
        if cell.head is not None:
            before, init = init, folder / "start"
            if not init.exists():
                beheaded(before / "policy", cell.head, seed).save(init)
        learn(load_rl_recipe(cell.preset, [*SHORT, *cell.overrides, f"optim.seed={seed}", *rl], data=[data], init=init), folder, progress=False)
    return folder


def beheaded(folder: Path, head: dict[str, Any], seed: int) -> Policy:
    """A policy with a new head in place of its own."""
    policy = Policy.load(folder)
    policy.recipe = Recipe.from_dict(policy.recipe.to_dict() | {"head": head})
    torch.manual_seed(seed)
    policy.head = HEADS.load(head["kind"])(policy.recipe.head, output_of(policy))
    return policy


def rows_of(name: str, results: list[EvaluationResult]) -> list[Row]:
    pooled = pool(results)
    metrics = {"success": pooled.success, "cycle_seconds": pooled.cycle_seconds}
    return pooled.rows_of(metrics, {"policy": name, "training seeds": str(len(results))}, "python benchmarks/chunked_rl.py")


if __name__ == "__main__":
    main()

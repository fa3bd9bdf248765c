"""Chunked offline RL against imitation on the tabletop, from sixty demonstrations of uneven quality (`benchmarks.uneven`).

    python benchmarks/chunked_rl.py --run runs/chunked_rl                                  # everything; goes on where it stopped
    python benchmarks/chunked_rl.py --only CO-RFT --seeds 0 --data "fixed starts"          # a part of it
    python benchmarks/chunked_rl.py --only CO-RFT --seeds 0 --split validation --trials 40 --set optim.steps=500 --tag short
    python benchmarks/chunked_rl.py --tables                                               # rows and picture of all that was evaluated

Imitation learns from the episodes that succeed, reinforcement learning from all of them. Each training seed trains everything anew, imitation
included. The regression head is imitated on the backbone that imitation with the diffusion head has tuned: both see the same.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from heads import HEADS
from vla.collect import collect
from vla.evaluate.evaluate import EvaluationResult, evaluate, pool
from vla.evaluate.seeds import seeds as scenes_of
from vla.evaluate.statistics import Rate, compare, mean_of, percent, rate_of
from vla.figures import COLOURS
from vla.policy import Policy
from vla.recipe import Recipe, load_recipe
from vla.results import Row, save_rows
from vla.rl.loop import learn, output_of
from vla.rl.recipe import load_rl_recipe
from vla.train import train

OUT, PICTURE = Path("docs/results/chunked_rl.json"), Path("docs/images/rl_in_time.png")
IN_TIME = 5.0
"""Seconds: twice what an even hand needs."""


@dataclass(frozen=True)
class Recorded:
    """A data set: who demonstrates how often, and where the objects stand."""

    demonstrator: str
    episodes: int
    area: str
    seed0: int = 0


SETS = {
    "random": Recorded("Uneven", 66, "inner"),
    "fixed": Recorded("Uneven", 66, "middle"),
    "failed": Recorded("Clumsy", 15, "inner", 5000),
}
"""66 episodes, of which about 60 succeed."""
ROLLOUTS, FIRST_ROLLOUT = 40, 6000
DATA = {"random starts": ("random",), "random starts and failures": ("random", "failed"), "random starts and rollouts": ("random", "rollouts"),
        "fixed starts": ("fixed",)}
"""What is learnt from; imitation takes the first of them. Rollouts are those of the policy that reinforcement learning begins with."""
SCENES = ("as demonstrated", "unseen positions")


@dataclass(frozen=True)
class Cell:
    """A policy of the table: a preset, and the policy that it begins with, with a new `head` if one is given. Imitation begins with none."""

    name: str
    preset: str
    overrides: tuple[str, ...] = ()
    init: str | None = None
    head: dict[str, Any] | None = None

    @property
    def critic(self) -> bool:
        """Whether it is reinforcement learning. If not, failures are no data for it."""
        return self.init is not None and self.preset != "imitate"


IMITATION = ("train.batch_size=32", "train.steps=600", "train.save_every=200")
REGRESSION = {"kind": "regression", "trunk": {"kind": "fc", "width": 256}}
SHORT = ("optim.steps=1000", "optim.batch_size=64", "optim.refresh=25", "optim.tau=0.05", "optim.val_every=200", "optim.save_every=500",
         "optim.critic_learning_rate=1e-3", "optim.actor_learning_rate=3e-4", "critic.width=48", "critic.layers=1", "data.rewards.gamma=0.97")
"""Small and short. With bootstrap values made anew every 25 steps, targets may follow fast: at the default τ of 0.005, a thousand steps are
five backups."""
DRAWING = "algorithm.bootstrap_draws=4"
DIFFUSION, REGRESSED = "imitation, diffusion", "imitation, regression"
CELLS = (
    Cell(DIFFUSION, "raw", IMITATION),
    Cell(REGRESSED, "imitate", ("optim.actor_learning_rate=1e-3", "optim.steps=800"), DIFFUSION, REGRESSION),
    Cell("regression + as much imitation", "imitate", (), REGRESSED),
    Cell("regression + CO-RFT", "co_rft", ("algorithm.actor_after=300", "algorithm.bc_weight=1"), REGRESSED),
    Cell("diffusion + as much imitation", "imitate", (), DIFFUSION),
    Cell("diffusion + Q-chunking, best of 32", "q_chunking", (DRAWING,), DIFFUSION),
    Cell("diffusion + n-step TD, best of 32", "n_step", (DRAWING,), DIFFUSION),
    Cell("diffusion + 1-step TD, best of 32", "one_step_td", (DRAWING,), DIFFUSION),
    Cell("regression + IQL, weighted regression", "iql", ("algorithm.actor_after=300", "algorithm.beta=30"), REGRESSED),
    Cell("diffusion + edits, best of 16", "edits", ("algorithm.actor_after=300", DRAWING), DIFFUSION),
)


@dataclass(frozen=True)
class Asked:
    """Where runs are, and what differs from the table: further overrides where a critic is learnt and the tag of such runs, further
    overrides of imitation, fewer episodes."""

    root: Path
    overrides: tuple[str, ...] = ()
    tag: str = ""
    imitation: tuple[str, ...] = ()
    episodes: int | None = None

    def folder(self, cell: Cell, data: str, seed: int) -> Path:
        tag = f"-{self.tag}" if self.tag and cell.critic else ""
        return self.root / _slug(data if cell.critic else _first(data)) / f"{_slug(cell.name)}{tag}-{seed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/chunked_rl"))
    parser.add_argument("--only", nargs="*", help="policies by a part of their name")
    parser.add_argument("--data", nargs="*", default=list(DATA), choices=list(DATA))
    parser.add_argument("--scenes", nargs="*", default=list(SCENES), choices=SCENES)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2], help="training seeds")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--split", default="test")
    parser.add_argument("--set", nargs="*", default=[], help="further overrides where a critic is learnt, to choose by validation scenes")
    parser.add_argument("--tag", default="", help="name of the runs with them")
    parser.add_argument("--tables", action="store_true", help="evaluate nothing; write the rows of what was")
    parser.add_argument("--out", type=Path, default=OUT, help="where the rows go")
    options = parser.parse_args()
    asked = Asked(options.run, tuple(options.set), options.tag)
    if options.tables:
        save_rows(options.out, [row for part in finished(asked, options.trials) for row in part])
        in_time(asked, options.trials, PICTURE)
        print("\n".join(pairs(asked, options.trials)))
        return
    for seed in options.seeds:
        for data in options.data:
            for cell in CELLS:
                if not options.only or any(part in cell.name for part in options.only):
                    folder = trained(cell, data, seed, asked)
                    for scenes in options.scenes:
                        found = tried(folder, data, scenes, options.split, options.trials)
                        print(f"{cell.name}, {data}, {scenes}, seed {seed} {options.tag}: {percent(found.success)}, "
                              f"cycle {found.cycle_seconds.mean:.2f} s", flush=True)


def robot(area: str) -> dict[str, Any]:
    return {"kind": "tabletop", "task": {"distractors": 0, "pairs": "seen", "area": area}}


def recorded(name: str, asked: Asked) -> Path:
    """The folder of a data set, recorded if it is not there."""
    folder, plan = asked.root / "data" / name, SETS[name]
    collect(robot(plan.area), folder, episodes=asked.episodes or plan.episodes, seed0=plan.seed0,
            policy=f"benchmarks.uneven:{plan.demonstrator}", progress=False)
    return folder


def trained(cell: Cell, data: str, seed: int, asked: Asked) -> Path:
    """The run of a policy and training seed, made if it is not there."""
    folder = asked.folder(cell, data, seed)
    roots = [recorded(name, asked) for name in DATA[data if cell.critic else _first(data)] if name != "rollouts"]
    if cell.init is None:
        area = SETS[DATA[data][0]].area
        recipe = load_recipe(cell.preset, [*cell.overrides, f"data.root={roots[0]}", f"robot={robot(area)}", f"train.seed={seed}",
                                           *asked.imitation])
        train(recipe, folder, progress=False)
        return folder
    init = trained(next(other for other in CELLS if other.name == cell.init), data, seed, asked)
    if cell.critic and "rollouts" in DATA[data]:
        roots.append(init / "rollouts")
        collect(robot(SETS[DATA[data][0]].area), roots[-1], episodes=asked.episodes or ROLLOUTS, seed0=FIRST_ROLLOUT, policy=init / "policy",
                progress=False)
    if cell.head is not None:
        before, init = init, folder / "start"
        if not init.exists():
            beheaded(before / "policy", cell.head, seed).save(init)
    overrides = [*SHORT, *cell.overrides, f"optim.seed={seed}", *(asked.overrides if cell.critic else ())]
    learn(load_rl_recipe(cell.preset, overrides, data=roots, init=init), folder, progress=False)
    return folder


def tried(folder: Path, data: str, scenes: str, split: str, trials: int) -> EvaluationResult:
    area = SETS[DATA[data][0]].area if scenes == SCENES[0] else "outer"
    return evaluate(folder / "policy", robot(area), scenes_of(split, trials), out=_trials_of(folder, scenes, split), progress=False)


def finished(asked: Asked, trials: int) -> Iterator[list[Row]]:
    """Rows of every policy, data set and scenes, of all training seeds' test trials."""
    for data, scenes, cell in itertools.product(DATA, SCENES, CELLS):
        if _learns_from(cell, data) and (done := _tested(asked, cell, data, scenes, trials)):
            found = pool(list(done.values()))
            metrics = {"success": found.success, f"success_in_{IN_TIME:g}_s": within(found, IN_TIME), "cycle_seconds": found.cycle_seconds}
            named = {"policy": cell.name, "data": data, "scenes": scenes, "training seeds": str(len(done))}
            yield found.rows_of(metrics, named, "python benchmarks/chunked_rl.py")


def within(found: EvaluationResult, seconds: float) -> Rate:
    """How many succeed in so much time."""
    return rate_of([trial.success and trial.seconds <= seconds for trial in found.trials])


def in_time(asked: Asked, trials: int, path: Path) -> None:
    """A picture of success against the time allowed, of the policies with the diffusion head, from random starts; bands are 95 % intervals of
    trials."""
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes, times = figure.subplots(), np.arange(1.0, 10.01, 0.1)
    for data, cell in itertools.product(DATA, CELLS):
        if "diffusion" in cell.name and "random" in data and _learns_from(cell, data) and (done := _tested(asked, cell, data, SCENES[0], trials)):
            found = pool(list(done.values()))
            rates = [within(found, time) for time in times]
            name, color = cell.name + data.removeprefix("random starts"), COLOURS[len(axes.lines) % len(COLOURS)]
            axes.plot(times, [100 * rate.mean for rate in rates], label=name, color=color)
            axes.fill_between(times, [100 * rate.low for rate in rates], [100 * rate.high for rate in rates], alpha=0.2, color=color)
    axes.axvline(IN_TIME, color="0.6", linewidth=1, linestyle=":")
    axes.set(xlabel="time allowed, s", ylabel="success, %", xlim=(1, 10), ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)


def pairs(asked: Asked, trials: int) -> Iterator[str]:
    """Every policy against the one that it begins with, on the trials that both have of the same training seed and scene."""
    named = {cell.name: cell for cell in CELLS}
    for data, scenes, cell in itertools.product(DATA, SCENES, CELLS):
        first = named.get(cell.init or "")
        if first is None or not _learns_from(cell, data):
            continue
        mine, theirs = ({(seed, trial.seed): trial for seed, found in _tested(asked, each, data, scenes, trials).items() for trial in found.trials}
                        for each in (cell, first))
        if both := sorted(mine.keys() & theirs.keys()):
            found = compare({i: mine[key].success for i, key in enumerate(both)}, {i: theirs[key].success for i, key in enumerate(both)})
            soon = compare(*({i: side[key].success and side[key].seconds <= IN_TIME for i, key in enumerate(both)} for side in (mine, theirs)))
            solved = [key for key in both if mine[key].success and theirs[key].success]
            faster = mean_of([theirs[key].seconds - mine[key].seconds for key in solved])
            before = np.mean([theirs[key].seconds for key in solved])
            yield (f"{cell.name} against {first.name}, {data}, {scenes}: {100 * found.difference:+.1f} points of {len(both)} ({found.a_only} against "
                   f"{found.b_only} where they differ, p = {found.p_value:.2g}), within {IN_TIME:g} s {100 * soon.difference:+.1f} (p = "
                   f"{soon.p_value:.2g}); on the {len(solved)} that both solve {faster.mean:.2f} s faster "
                   f"[{faster.low:.2f}, {faster.high:.2f}] of {before:.2f} s, {100 * faster.mean / before:.0f} %")


def _tested(asked: Asked, cell: Cell, data: str, scenes: str, trials: int) -> dict[int, EvaluationResult]:
    """Test trials by training seed, as far as there are any."""
    folders = {seed: asked.folder(cell, data, seed) for seed in range(10)}
    files = {seed: _trials_of(folder, scenes, "test") for seed, folder in folders.items()}
    counts = {seed: len(file.read_text().splitlines()) for seed, file in files.items() if file.exists()}
    return {seed: tried(folders[seed], data, scenes, "test", min(trials, count)) for seed, count in counts.items()}


def _trials_of(folder: Path, scenes: str, split: str) -> Path:
    return folder / f"{split}-{_slug(scenes)}.jsonl"


def _learns_from(cell: Cell, data: str) -> bool:
    """Whether these data are its own: imitation takes the first of them, and is the same whatever the rest."""
    return cell.critic or data == _first(data)


def _first(data: str) -> str:
    """The data that imitation learns from, for policies that other data make no difference to."""
    return next(name for name, sets in DATA.items() if sets == DATA[data][:1])


def _slug(name: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name).split())


def beheaded(folder: Path, head: dict[str, Any], seed: int) -> Policy:
    """A policy with a new head in place of its own."""
    policy = Policy.load(folder)
    policy.recipe = Recipe.from_dict(policy.recipe.to_dict() | {"head": head})
    torch.manual_seed(seed)
    policy.head = HEADS.load(head["kind"])(policy.recipe.head, output_of(policy))
    return policy


if __name__ == "__main__":
    main()

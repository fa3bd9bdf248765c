"""Chunked offline RL on one Meta-World task, told in words among five: imitation, then Q-chunking on its own rollouts, failures included.

    python benchmarks/metaworld_rl.py --imitation runs/metaworld/policy --run runs/metaworld_rl

The policy that `vla train metaworld` makes is rolled out on the task, and learns from these rollouts and from demonstrations of the task
by the scripted expert what a chunk is worth. Its head stays as it is and acts by the best of 32 draws. Both are tried on the same scenes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vla.collect import collect
from vla.evaluate.evaluate import EvaluationResult, evaluate
from vla.evaluate.seeds import seeds as scenes_of
from vla.evaluate.statistics import compare, percent
from vla.results import Row, save_rows
from vla.rl.loop import learn
from vla.rl.recipe import load_rl_recipe

RECIPE = ("optim.steps=800", "optim.batch_size=64", "optim.refresh=20", "optim.tau=0.05", "optim.val_every=200", "optim.critic_learning_rate=1e-3",
          "critic.width=48", "critic.layers=1", "data.rewards.gamma=0.985", "algorithm.bootstrap_draws=4")
"""As on the tabletop, but a step is an eightieth of a second here: episodes are twice as long, and so is the sight."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imitation", type=Path, default=Path("runs/metaworld/policy"))
    parser.add_argument("--task", default="button-press-topdown")
    parser.add_argument("--run", type=Path, default=Path("runs/metaworld_rl"))
    parser.add_argument("--rollouts", type=int, default=40)
    parser.add_argument("--demonstrations", type=int, default=12)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("docs/results/metaworld_rl.json"))
    options = parser.parse_args()
    robot: dict[str, Any] = {"kind": "metaworld", "tasks": [options.task]}
    shown, done = options.run / "demonstrations", options.run / "rollouts"
    collect(robot, shown, episodes=options.demonstrations, noise=0.02, progress=False)
    collect(robot, done, episodes=options.rollouts, seed0=1000, policy=options.imitation, progress=False)
    recipe = load_rl_recipe("q_chunking", list(RECIPE), data=[shown, done], init=options.imitation)
    learned = learn(recipe, options.run / "q_chunking", progress=False).policy_dir
    scenes, found = scenes_of("test", options.trials), {}
    for name, policy in (("imitation, diffusion", options.imitation), ("diffusion + Q-chunking, best of 32", learned)):
        found[name] = evaluate(policy, robot, scenes, out=options.run / f"{'-'.join(name.split())}.jsonl", progress=False)
        print(f"{name}: {percent(found[name].success)}, cycle {found[name].cycle_seconds.mean:.2f} s", flush=True)
    print(compare(*(result.by_seed() for result in reversed(found.values()))))
    save_rows(options.out, [row for name, result in found.items() for row in rows_of(name, options.task, result)])


def rows_of(name: str, task: str, result: EvaluationResult) -> list[Row]:
    return result.rows_of({"success": result.success, "cycle_seconds": result.cycle_seconds}, {"policy": name, "task": task},
                          "python benchmarks/metaworld_rl.py")


if __name__ == "__main__":
    main()

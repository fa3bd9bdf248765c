"""What perception costs beside the rest of a policy, and what it costs to ground less often.

    python benchmarks/grounding_cost.py POLICY          # writes docs/results/perception_{cost,every}.json; then: python -m vla.results

`cost`: CPU milliseconds on one thread for one observation, part by part, of the policy at POLICY and of those with another recipe given after it.
`every`: success among seven distractors where the masks are grounded anew every n looks (a look is `execute` control steps) and a light
tracker carries them in between. The first 60 validation scenes, the same for every n.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from perception.percept import Batch
from robot_io.tabletop.regimes import options
from robot_io.tabletop.robot import TabletopRobot
from vla.evaluate.evaluate import evaluate
from vla.evaluate.seeds import seeds
from vla.evaluate.statistics import mean_of
from vla.policy import Policy
from vla.results import Row, save_rows

OUT = Path("docs/results")
COMMAND = "python benchmarks/grounding_cost.py"
EVERY = (1, 2, 4, 8, 100)
"""100 looks are longer than an episode: ground once, then follow."""
REGIME = "distractors 7"


def cost(folders: list[str], looks: int = 60) -> list[Row]:
    """Every front-end, the backbone and the head, for the same pictures."""
    robot = TabletopRobot(**options(REGIME))
    observations = []
    for seed in seeds("validation", looks):
        robot.reset(seed)
        observations.append(robot.observe())
    robot.close()
    rows: list[Row] = []
    for folder in folders:
        policy = Policy.load(folder)
        times: dict[str, list[float]] = {}
        for observation in observations:
            for part, ms in parts(policy, Batch.stack([observation], policy.cameras, memory=[{}])):
                times.setdefault(part, []).append(ms)
        total = [sum(each) for each in zip(*times.values(), strict=True)]
        for part, measured in {**times, "together": total}.items():
            rows.append({"cell": {"policy": policy.recipe.name, "part": part}, "metric": "milliseconds",
                         **mean_of(measured[5:]).to_dict(), "seeds": [], "recipe": policy.recipe.hash, "command": COMMAND})
    return rows


@torch.inference_mode()
def parts(policy: Policy, batch: Batch) -> list[tuple[str, float]]:
    """The observation's way through the policy: `(part, CPU milliseconds)` in order."""
    from perception.percept import raw

    found = []

    def clocked(name: str, work: Callable):
        start = time.process_time()
        made = work()
        found.append((name, 1e3 * (time.process_time() - start)))
        return made

    percept = raw(batch)
    for front_end, config in zip(policy.front_ends, policy.recipe.perception, strict=True):
        percept = clocked(f"perception: {config.kind}", lambda f=front_end, p=percept: f(batch, p))
    context = clocked("backbone", lambda: policy.context(batch, percept))
    clocked("head", lambda: policy.head.sample(context))
    return found


def every(folder: str, run: Path, trials: int = 60) -> list[Row]:
    rows: list[Row] = []
    for n in EVERY:
        source = f"{folder}#perception.0.ground_every={n}" + ("#perception.0.tracker={kind: propagate}" if n > 1 else "")
        result = evaluate(source, {"kind": "tabletop", **options(REGIME)}, seeds("validation", trials), out=run / f"every-{n}.jsonl")
        cell = {"grounded": "once, then tracked" if n == max(EVERY) else f"every {n} looks" if n > 1 else "every look"}
        metrics = {"success": result.success, "wrong_object": result.wrong_object, "latency_ms": result.mean_latency_ms}
        rows += result.rows_of(metrics, cell, COMMAND)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policies", nargs="+", help="policy folders; the first is the one that grounds less often")
    parser.add_argument("--run", type=Path, default=Path("runs/perception"), help="folder of the trials")
    options_ = parser.parse_args()
    torch.set_num_threads(1)
    save_rows(OUT / "perception_cost.json", cost(options_.policies))
    save_rows(OUT / "perception_every.json", every(options_.policies[0], options_.run))


if __name__ == "__main__":
    main()

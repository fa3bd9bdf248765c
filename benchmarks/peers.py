"""Success after the same CPU time: this project's default recipe against LeRobot's ACT and Diffusion Policy, on the same demonstrations and scenes.

    python -m benchmarks.peers strip --data data/clean --out data/clean-rgb                 # LeRobot does not read our depth
    python -m benchmarks.peers train raw --data data/clean --run runs/peers                  # ours: a training for each of 5, 10, 20 minutes
    LEROBOT/bin/python benchmarks/peer/side.py train act data/clean-rgb runs/peers/act 300,600,1200         # ... and "diffusion, small"
    python -m benchmarks.peers try --run runs/peers --lerobot LEROBOT/bin/python            # docs/results/peers.json; then: python -m vla.results

`data/clean` is what `vla collect` makes of `raw`'s robot; `clean-rgb` is the same without depth. One thread a
process; CPU seconds count from a process's start: imports, decoding, perception ahead of time, and for ours the steps that were
taken to learn how many fit. What LeRobot is given stands in `benchmarks/peer/side.py`. The scenes are the first test scenes, the robot `raw`'s.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

from vla.evaluate.statistics import rate_of
from vla.evaluate.trials import read_rows
from vla.files import write_json
from vla.results import Row, save_rows

OUT = Path("docs/results/peers.json")
MARKS = (300, 600, 1200)
SIDES = {"swapvla, raw": "raw", "LeRobot, ACT": "act", "LeRobot, Diffusion Policy": "diffusion"}
SPARE = 0.95
"""Of the time that is left: validation and saving want some of it."""
PROBE = 20


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    training = actions.add_parser("train", help="ours")
    training.add_argument("preset", nargs="?", default="raw")
    training.add_argument("--data", type=Path, required=True)
    training.add_argument("--marks", type=int, nargs="+", default=MARKS, help="CPU seconds")
    trying = actions.add_parser("try", help="whatever is trained")
    trying.add_argument("--lerobot", help="an interpreter that has lerobot==0.4.4 and this project's extra sim; without it, ours alone is tried")
    trying.add_argument("--trials", type=int, default=50)
    trying.add_argument("--marks", type=int, nargs="+", default=MARKS)
    stripping = actions.add_parser("strip", help="a copy of a data set without depth")
    stripping.add_argument("--data", type=Path, required=True)
    stripping.add_argument("--out", type=Path, required=True)
    for one in (training, trying):
        one.add_argument("--run", type=Path, default=Path("runs/peers"))
    one_of = parser.parse_args()
    if one_of.action == "strip":
        strip(one_of.data, one_of.out)
    elif one_of.action == "train":
        for mark in one_of.marks:
            if not (one_of.run / f"{one_of.preset}-{mark}" / "trained.json").exists():  # a process each, whose clock starts at nothing
                code = "from benchmarks.peers import train; import sys; train(*sys.argv[1:])"
                subprocess.run([sys.executable, "-c", code, one_of.preset, str(one_of.data), str(one_of.run), str(mark)], check=True)
    else:
        rows = [row for side, name in SIDES.items() for mark in one_of.marks for row in tried(side, name, mark, one_of)]
        save_rows(OUT, rows)


def strip(data: Path, out: Path) -> None:
    """A copy without the columns, statistics and files of depth."""
    shutil.copytree(data, out, ignore=lambda _, names: [name for name in names if "depth" in name])
    for path in out.rglob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.select([name for name in table.column_names if "depth" not in name]).replace_schema_metadata(None), path)
    info, stats = (json.loads((out / "meta" / f"{name}.json").read_text()) for name in ("info", "stats"))
    info["features"] = {name: feature for name, feature in info["features"].items() if "depth" not in name}
    write_json(out / "meta" / "info.json", info)
    write_json(out / "meta" / "stats.json", {name: value for name, value in stats.items() if "depth" not in name})


def train(preset: str, data: str, root: str, mark: str) -> None:
    """Ours, from nothing: an empty cache, and as many steps as the time that is left allows."""
    import torch

    from vla.recipe import load_recipe
    from vla.train import train as fit
    from vla.train.display import Display
    from vla.train.loop import Trainer
    from vla.train.run import Run

    torch.set_num_threads(1)
    folder = Path(root) / f"{preset}-{mark}"
    shutil.rmtree(folder, ignore_errors=True)
    told = [f"data.root={data}", f"data.cache={folder / 'cache'}"]
    trial = load_recipe(preset, told)
    trainer = Trainer(trial, Run(trial, folder / "probe"), Display(False))
    trainer._open_pictures()
    trainer.advance(0)
    began = time.process_time()
    for step in range(1, 1 + PROBE):
        trainer.advance(step)
    now = time.process_time()
    steps = int(SPARE * (float(mark) - now) / ((now - began) / PROBE))
    del trainer
    recipe = load_recipe(preset, [*told, f"train.steps={steps}"])
    fit(recipe, folder, progress=False)
    write_json(folder / "trained.json", {"steps": steps, "samples": steps * recipe.train.batch_size, "cpu_seconds": time.process_time()})
    shutil.rmtree(folder / "cache")


def tried(side: str, name: str, mark: int, options: argparse.Namespace) -> list[Row]:
    """Rows of one policy, its trials run first as far as they are not on disk; none if it is not trained yet."""
    folder, ours = options.run / f"{name}-{mark}", name == "raw"
    if not (folder / "trained.json").exists() or (not ours and options.lerobot is None):
        return []
    policy = str(folder / "policy") if ours else "benchmarks.peer.driver:LeRobotPolicy"
    out = folder / "test.jsonl"
    subprocess.run([sys.executable if ours else options.lerobot, "-m", "vla.cli", "evaluate", policy, "robot.task.distractors=0",
                    "robot.task.pairs=seen", "--trials", str(options.trials), "--workers", "1", "--out", str(out)], check=True,
                   env=os.environ | {"PEER_POLICY": str(folder), "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()})
    trials, trained = list(read_rows(out)), json.loads((folder / "trained.json").read_text())
    cell = {"trained by": side, "CPU minutes": f"{mark / 60:.0f}", "CPU seconds": f"{trained['cpu_seconds']:.0f}",
            "steps": f"{trained['steps']:,}", "samples": f"{trained['samples']:,}"}
    common = {"seeds": sorted(trial["seed"] for trial in trials), "recipe": trials[0]["recipe"], "command": "python -m benchmarks.peers"}
    return [{"cell": cell, "metric": metric, **rate_of([trial[metric] for trial in trials]).to_dict(), **common}
            for metric in ("success", "wrong_object")]


if __name__ == "__main__":
    main()

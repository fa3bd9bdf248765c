"""Two gloo processes against one process of one thread, at the same global batch, frozen perception cached.

Wall-clock needs two cores that nothing else uses. CPU time of the busier process, communication included, is what a step would take on such
cores but for the time in which it waits for the other. That the losses are the same is a test: tests/vla/train/test_crew.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.peer import Peer
from benchmarks.rounds import Measured, Ratio
from vla.recipe import load_recipe

BATCHES, ROUNDS, STEPS, WARM = (256, 512), 4, 14, 4


def measure(data: Path, episodes: int, scratch: Path, peer: Peer) -> list[Measured | Ratio]:
    found: list[Measured | Ratio] = []
    for batch in BATCHES:
        rounds = [{processes: steps(data, scratch, batch, processes) for processes in (1, 2)} for _ in range(ROUNDS)]
        for clock in ("wall", "cpu"):
            what, unit = f"training raw, batch of {batch}, {clock} time", f"samples per {clock} second"
            rates = {processes: [batch / each[processes][clock] for each in rounds] for processes in (1, 2)}
            found += [Measured("crews", what, f"{processes} gloo process{'es' * (processes > 1)}", unit, values)
                      for processes, values in rates.items()]
            found.append(Ratio("crews", f"{what}: two processes against one", rates[2], rates[1]))
    return found


def steps(data: Path, scratch: Path, batch: int, processes: int) -> dict[str, float]:
    """Seconds of a step, the median without the first ones, by clock; of the process that took longest in each."""
    recipe = load_recipe("raw", [f"data.root={data}", f"data.cache={scratch / 'cache'}", f"train.batch_size={batch}"])
    file = scratch / "crew.yaml"
    file.write_text(recipe.to_yaml())
    with tempfile.TemporaryDirectory(dir=scratch) as out:
        subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "benchmarks.crews",
                        str(file), out], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True)
        all_of = [json.loads(path.read_text()) for path in Path(out).glob("*.json")]
    assert len(all_of) == processes
    return {clock: float(np.median(np.max([one[clock] for one in all_of], 0))) for clock in ("wall", "cpu")}


def process(recipe_file: str, out: str) -> None:
    """One of them: takes the steps and writes down how long each took."""
    from vla.train.display import Display
    from vla.train.loop import Trainer
    from vla.train.run import Run

    recipe = load_recipe(recipe_file)
    trainer = Trainer(recipe, Run(recipe, Path(out) / "run"), Display(False))
    trainer._open_pictures()
    marks = []
    for step in range(STEPS + 1):
        marks.append((time.perf_counter(), time.process_time()))
        trainer.advance(step)
    wall, cpu = np.diff(np.array(marks)[WARM:], axis=0).T.tolist()
    (Path(out) / f"{trainer.crew.rank}.json").write_text(json.dumps({"wall": wall, "cpu": cpu}))


if __name__ == "__main__":
    process(*sys.argv[1:])

"""Two gloo processes against one process of one thread, at the same global batch, frozen perception cached. Wall-clock, so on a quiet machine.

That the losses are the same is a test: tests/vla/train/test_crew.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.peer import Peer
from benchmarks.rounds import Measured, Ratio
from vla.recipe import load_recipe

BATCH, STEPS, WARM = 64, 40, 10


def measure(data: Path, episodes: int, scratch: Path, peer: Peer) -> list[Measured | Ratio]:
    times = {processes: steps(data, scratch, processes) for processes in (1, 2)}
    rates = {processes: [BATCH / seconds for seconds in values] for processes, values in times.items()}
    what = f"training raw, batch of {BATCH}"
    return [*(Measured("crews", what, f"{processes} gloo process{'es' * (processes > 1)}", "samples per second", values)
              for processes, values in rates.items()), Ratio("crews", f"{what}: two processes against one", rates[2], rates[1])]


def steps(data: Path, scratch: Path, processes: int) -> list[float]:
    """Seconds of each step but the first ones."""
    recipe = load_recipe("raw", [f"data.root={data}", f"data.cache={scratch / 'cache'}", f"train.batch_size={BATCH}", "train.log_every=1",
                                 f"train.steps={STEPS}", "train.val_every=1000000"])
    file, run = scratch / f"crew-{processes}.yaml", scratch / f"crew-{processes}"
    file.write_text(recipe.to_yaml())
    together = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    subprocess.run([sys.executable, "-m", *together, "vla.cli", "train", str(file), "--run", str(run)], check=True,
                   env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return list(np.diff([row["seconds"] for row in rows if "loss" in row])[WARM:])

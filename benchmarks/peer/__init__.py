"""The named peer, `lerobot==0.4.4`, in an environment of its own (see `side`), and the frames that both sides are given."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np

from robot_io import UserError
from robot_io.dataset import Dataset

SIDE = Path(__file__).with_name("side.py")


class Peer:
    """LeRobot, asked through a process of its own environment; None of it without an interpreter."""

    def __init__(self, python: str | None) -> None:
        self.python = python

    def ask(self, *arguments: object) -> dict | None:
        if self.python is None:
            return None
        environment = {**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run([self.python, SIDE, *map(str, arguments)], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise UserError("LeRobot's side", done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "failed", "a result",
                            "check the environment: tests/interop/check_lerobot.py")
        return json.loads(done.stdout.strip().splitlines()[-1])


def pictures(data: Path, episodes: int, out: Path) -> dict[str, np.ndarray]:
    """What the demonstrations hold, as arrays; also written to `out` for LeRobot's side."""
    dataset = Dataset(data)
    first = dataset.episodes[:episodes]
    stop = first[-1].stop
    arrays = {f"rgb-{name}": np.concatenate([dataset.rgb(name, episode) for episode in first]) for name in dataset.cameras}
    arrays |= {"state": dataset.column("observation.state")[:stop], "action": dataset.column("action")[:stop],
               "bounds": np.array([[episode.start, episode.stop] for episode in first])}
    np.savez(out, **arrays)
    return arrays

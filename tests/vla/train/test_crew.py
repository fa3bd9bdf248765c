"""Two gloo processes against one: the same losses and weights for the same global batch, whether weights are copied or cut into slices."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from vla.policy import Policy
from vla.recipe import Recipe
from vla.train import train

ROOT = Path(__file__).parents[3]
# No dropout: processes draw their own noise. A batch of 7 in two parts: 4 and 3 samples, then 2 and 2, 2 and 1.
SAME = ("backbone.layers=2", "head.decoder.dropout=0", "train.batch_size=7", "train.accumulate=2", "train.steps=6", "train.save_every=3", "train.log_every=1",
        "train.val_every=2", f"train.device={'cpu' if torch.accelerator.is_available() else 'auto'}", "tuning.vision=frozen", "train.feature_dtype=float32")
TOLERANCE = 1e-5
"""Of losses, relative: another order of summation."""


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def curve(run: Path, name: str = "loss") -> list[float]:
    return [row[name] for row in rows(run) if name in row]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return dict(Policy.load(run / "policy").named_parameters())


@pytest.fixture(scope="module")
def runs(toy_recipe: Callable, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Recipe, Path]]:
    """The same recipe on one process, on two with copies, on two with slices."""
    root = tmp_path_factory.mktemp("crews")
    made = {name: (toy_recipe(*SAME, *more), root / name) for name, more in (("one", ()), ("copies", ()), ("slices", ("train.shard=true",)))}
    arguments = []
    for name in ("copies", "slices"):
        recipe, folder = made[name]
        (root / f"{name}.yaml").write_text(recipe.to_yaml())
        arguments += [str(root / f"{name}.yaml"), str(folder)]
    train(*made["one"], progress=False)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
                           str(ROOT / "tests/crew_side.py"), *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return made


@pytest.mark.parametrize("kind", ["copies", "slices"])
def test_two_processes_make_the_same_steps_as_one(runs: dict, kind: str):
    for name in ("loss", "grad_norm", "val_loss"):
        assert curve(runs[kind][1], name) == pytest.approx(curve(runs["one"][1], name), rel=TOLERANCE), name
    ours, theirs = weights(runs[kind][1]), weights(runs["one"][1])
    for name, parameter in theirs.items():
        torch.testing.assert_close(ours[name], parameter, atol=1e-4, rtol=1e-3, msg=name)


def test_each_process_writes_its_own_rows(runs: dict):
    (folder,) = runs["slices"][1].glob("checkpoints/step-000006")
    files = [safe_open(folder / name, "pt") for name in ("state.safetensors", "state-1.safetensors")]
    lengths = [file.get_slice("weight/backbone.words.weight").get_shape()[0] for file in files]
    assert sum(lengths) == Policy.load(runs["one"][1] / "policy").backbone.words.weight.shape[0] and abs(lengths[0] - lengths[1]) <= 1


def test_slices_of_two_are_continued_by_one(runs: dict, tmp_path: Path):
    recipe, folder = runs["slices"]
    shutil.copytree(folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "policy")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000006")
    train(recipe, tmp_path / "run", progress=False)
    assert curve(tmp_path / "run") == pytest.approx(curve(runs["one"][1]), rel=TOLERANCE)
    assert curve(tmp_path / "run")[:3] == curve(folder)[:3] and np.isfinite(curve(tmp_path / "run")).all()

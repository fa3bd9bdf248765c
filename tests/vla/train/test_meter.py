"""What training says about its speed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from robot_io import UserError
from vla.train import train
from vla.train.meter import Meter


def test_waiting_for_data_is_told_apart_from_work():
    meter = Meter(torch.device("cpu"), torch.float32)
    for _ in range(3):
        with meter.step():
            with meter.waiting():
                time.sleep(0.03)
            time.sleep(0.01)
    found = meter.read(batch_size=8)
    assert 0.5 < found["data_wait"] < 0.9
    assert 3 * 8 / 0.5 < found["samples_per_second"] < 8 / 0.04
    assert found["host_mb"] > 50 and "mfu" not in found
    assert "data_wait" not in meter.read(8)  # nothing since


def test_operations_are_counted_forward_and_backward():
    meter, layer, x = Meter(torch.device("cpu"), torch.float32), torch.nn.Linear(256, 256), torch.randn(512, 256)
    for count in (True, False):
        with meter.step(count=count):
            layer(x).sum().backward()
    assert meter.flops == 2 * 2 * 512 * 256 * 256  # the input needs no gradient
    assert meter.read(1)["mfu"] > 0


def test_the_log_goes_to_tensorboard_too(toy_recipe: Callable, tmp_path: Path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    recipe = toy_recipe("train.trackers=[tensorboard]", "train.steps=4", "train.log_every=2", "tuning.vision=frozen")
    train(recipe, tmp_path / "run", progress=False)
    drawn = events.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    drawn.Reload()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(event.step, event.value) for event in drawn.Scalars("loss")] == [
        (row["step"], pytest.approx(row["loss"])) for row in rows if "loss" in row]
    assert {"samples_per_second", "data_wait", "host_mb", "mfu", "val_loss", "lr"} <= set(drawn.Tags()["scalars"])


def test_a_tracker_that_is_not_installed_is_refused_first(toy_recipe: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"'wandb' is not installed.*pip install wandb"):
        train(toy_recipe("train.trackers=[wandb]"), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()

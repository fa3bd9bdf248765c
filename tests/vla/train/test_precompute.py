"""Perception computed ahead: by several processes, and in several augmented views."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from robot_io import UserError
from vla.cli import app
from vla.data import Demonstrations
from vla.policy import Policy
from vla.train import train
from vla.train.features import Features
from vla.train.precompute import precompute

SHIFTED = ("perception=[{kind: shift, pad: 2}]", "tuning.vision=frozen", "train.feature_dtype=float32")


def everything(items, description):
    return items


def never(items, description):
    raise AssertionError(f"computed again: {description}")


def test_any_number_of_processes_fills_the_same_cache(toy_recipe: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vla.train.features.FRAMES_AT_ONCE", 16)
    made = [precompute(toy_recipe("tuning.vision=frozen", f"data.cache={tmp_path / str(workers)}"), workers=workers, progress=False)
            for workers in (1, 2)]
    one, two = (Path(found["folders"][0]) for found in made)
    assert one.name == two.name and one != two
    assert np.array_equal(np.load(one / "features.npy"), np.load(two / "features.npy"))
    assert made[0]["views"] == 1 and made[0]["frames"] == len(np.load(one / "features.npy"))


def test_augmented_views_differ_and_the_first_is_as_if_nothing_were_augmented(toy_recipe: Callable):
    plain, shifted = toy_recipe(*SHIFTED[1:]), toy_recipe(*SHIFTED, "train.cached_views=3")
    expected = precompute(plain, progress=False)["folders"][0]
    data = Demonstrations(shifted)
    policy = Policy.build(shifted, data.spec, data.normalizer())
    features = Features(policy, data, everything)
    assert str(features.views[0].folder) == expected
    index = np.array([3, 3, 3, 3])
    seen = features.percept(index, policy.device, np.array([0, 1, 2, 3])).features
    assert torch.equal(seen[0], features.percept(index[:1], policy.device).features[0])
    assert all(not torch.equal(seen[a], seen[b]) for a in range(4) for b in range(a))
    drawn = np.concatenate([features.draw(8, 0, step) for step in range(20)])
    assert set(drawn) == {1, 2, 3} and np.array_equal(features.draw(8, 0, 7), drawn[56:64])
    again = Features(policy, data, never)
    assert torch.equal(again.percept(index, policy.device, np.array([0, 1, 2, 3])).features, seen)


def test_training_draws_among_cached_views(toy_recipe: Callable, tmp_path: Path):
    losses = {views: train(toy_recipe(*SHIFTED, f"train.cached_views={views}", "train.steps=4", "train.log_every=1"),
                           tmp_path / str(views), progress=False).losses for views in (0, 1, 3)}
    assert np.isfinite(list(losses.values())).all()
    assert losses[1] != losses[3]


def test_what_cannot_be_computed_ahead_is_refused_with_the_way_out(toy_recipe: Callable):
    with pytest.raises(UserError, match=r"'shift' is not frozen.*train\.cached_views"):
        precompute(toy_recipe(*SHIFTED), progress=False)


def test_the_command_says_what_it_made(toy_recipe: Callable, tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text(toy_recipe("tuning.vision=frozen").to_yaml())
    done = CliRunner().invoke(app, ["precompute", str(tmp_path / "recipe.yaml"), "--json"])
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found["reach"] == "features" and all(Path(folder).is_dir() for folder in found["folders"])

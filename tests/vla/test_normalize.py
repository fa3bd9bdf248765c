from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from toy_robot import ToyRobot

from robot_io import ActionSpec, UserError
from vla.normalize import Affine, Normalizer, Statistics, action_modes

MODES = ("quantile", "minmax", "mean_std")
RANDOM = np.random.default_rng(0)


def affine(column: np.ndarray, mode: str) -> Affine:
    names = tuple(f"d{i}" for i in range(column.shape[1]))
    return Affine(Statistics.measure(column, names, "test"), (mode,) * column.shape[1], "test")


@settings(max_examples=60, deadline=None)
@given(column=arrays(np.float32, (7, 3), elements=st.floats(-1e4, 1e4, width=32)), mode=st.sampled_from(MODES))
def test_restore_is_the_inverse_of_normalize(column: np.ndarray, mode: str):
    scaling = affine(column, mode)
    back = scaling.restore(scaling.normalize(torch.from_numpy(column))).numpy()
    assert np.abs(back - column).max() <= 1e-4 * max(1.0, np.abs(column).max())


@settings(max_examples=30, deadline=None)
@given(value=st.floats(-1e4, 1e4, width=32), mode=st.sampled_from(MODES))
def test_a_constant_dimension_becomes_zero_and_comes_back(value: float, mode: str):
    scaling = affine(np.full((5, 1), value, np.float32), mode)
    assert scaling.normalize(torch.tensor([[value], [value + 3]])).eq(0).all()
    assert scaling.restore(torch.tensor([[0.7]])).item() == pytest.approx(value)


def test_modes_map_what_they_promise():
    column = RANDOM.normal(3, 2, (4000, 1)).astype(np.float32)
    x = torch.from_numpy(column)
    assert affine(column, "minmax").normalize(x).aminmax() == (pytest.approx(-1), pytest.approx(1))
    scaled = affine(column, "mean_std").normalize(x)
    assert (scaled.mean().item(), scaled.std().item()) == (pytest.approx(0, abs=1e-3), pytest.approx(1, abs=1e-3))
    inside = affine(column, "quantile").normalize(x).abs() <= 1
    assert inside.float().mean().item() == pytest.approx(0.98, abs=0.002)


def test_a_rarely_moving_dimension_keeps_its_full_range():
    column = np.zeros((1000, 1), np.float32)
    column[:3] = 0.5  # both quantiles are 0
    assert affine(column, "quantile").normalize(torch.tensor([[0.5], [0.0]])).flatten().tolist() == [1, -1]


def test_grippers_and_absolute_targets_are_not_cut_by_quantiles():
    spec = ActionSpec(names=("x", "j", "g"), units=("m", "rad", "1"), low=(-1, -1, 0), high=(1, 1, 1),
                      modes=("delta", "absolute", "absolute"), rate_hz=10, gripper=2)
    assert action_modes(spec, "quantile") == ("quantile", "minmax", "minmax")


def test_saved_and_loaded_scales_the_same(tmp_path: Path):
    spec = ToyRobot().spec
    actions, state = RANDOM.normal(size=(2, 50, 2)).astype(np.float32)
    made = Normalizer.measure(spec, actions, state)
    made.save(tmp_path / "stats.safetensors")
    loaded = Normalizer.load(tmp_path / "stats.safetensors")
    x = torch.randn(5, 2)
    assert torch.equal(loaded.action.normalize(x), made.action.normalize(x))
    assert torch.equal(loaded.state.normalize(x), made.state.normalize(x))
    assert loaded.state.modes == ("mean_std", "mean_std")


@pytest.mark.parametrize("lost", ["action.q99", "state.std"])
def test_a_missing_statistic_is_an_error_not_identity(tmp_path: Path, lost: str):
    path = tmp_path / "stats.safetensors"
    values = RANDOM.normal(size=(50, 2)).astype(np.float32)
    Normalizer.measure(ToyRobot().spec, values, values).save(path)
    with safe_open(path, "np") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    del tensors[lost]
    save_file(tensors, path, metadata)
    part, name = lost.split(".")
    with pytest.raises(UserError, match=f"statistics of the {part}: '{name}' is missing"):
        Normalizer.load(path)


def test_statistics_without_their_description_are_refused(tmp_path: Path):
    save_file({"action.q01": torch.zeros(2)}, tmp_path / "stats.safetensors", {"statistics": json.dumps({})})
    with pytest.raises(UserError, match="cannot be read"):
        Normalizer.load(tmp_path / "stats.safetensors")


def test_nan_in_the_data_is_named_by_frame_and_dimension():
    column = np.zeros((9, 2), np.float32)
    column[4, 1] = np.nan
    with pytest.raises(UserError, match="'b' in frame 4"):
        Statistics.measure(column, ("a", "b"), "actions")

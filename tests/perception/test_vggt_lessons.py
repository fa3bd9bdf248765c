"""What the small networks are taught agrees with the simulator's geometry; what a training run writes can be loaded; what is shipped sees."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from perception.lifting import transform
from perception.vggt import train as training
from perception.vggt.checkpoint import load_eye, load_vggt
from perception.vggt.examine import Networks, depth_rows, ridge, with_one
from perception.vggt.lessons import Teacher, most_shown, quaternion, words_in
from perception.vggt.scenes import ARRAYS, label, open_arrays
from robot_io.tabletop.robot import TabletopRobot


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scenes on the plain table, the front camera moved in the last two."""
    folder = tmp_path_factory.mktemp("scenes")
    arrays, at = open_arrays(folder, 4), 0
    for shift in (0.0, 0.06):
        robot = TabletopRobot(task={"distractors": 3, "bowls": 1}, camera_shift=shift)
        for seed in range(2):
            robot.reset(seed)
            for name, value in label(robot).items():
                arrays[name][at] = value
            at += 1
        robot.close()
    for array in arrays.values():
        array.flush()
    return folder


def teacher(scenes: Path) -> Teacher:
    return Teacher(scenes, *words_in(scenes))


def test_cells_lie_where_the_simulator_has_them(scenes: Path):
    taught = teacher(scenes)
    lesson = taught.lesson(np.arange(4), None)
    base_from_front = torch.from_numpy(np.array(taught.arrays["poses"]))[:, 0]
    height = transform(lesson.points.flatten(1, 2), base_from_front)[..., 2].view(4, 2, -1)
    nothing = lesson.color == len(taught.colors) + 1
    assert {tuple(array.shape[1:]) for array in taught.arrays.values()} == {tuple(shape) for _, shape in ARRAYS.values()}
    assert height[nothing].abs().quantile(0.8) < 0.004  # the table, whichever camera sees it, wherever the front one stands
    assert not torch.equal(base_from_front[0], base_from_front[2])
    moved = transform(torch.zeros(4, 1, 3), torch.from_numpy(np.array(taught.arrays["poses"]))[:, 1])[:, 0]
    found = transform(lesson.camera[:, None, :3], base_from_front)[:, 0]
    torch.testing.assert_close(found, moved, atol=1e-4, rtol=0)


def test_cells_say_what_they_show(scenes: Path):
    taught = teacher(scenes)
    lesson = taught.lesson(np.arange(4), None)
    names = {name for row in taught.arrays["names"] for name in row if name}
    shown = {(taught.colors[c], taught.shapes[s]) for c, s in zip(lesson.color.flatten().tolist(), lesson.shape.flatten().tolist(), strict=True)
             if c < len(taught.colors)}
    assert shown and {" ".join(pair) for pair in shown} <= names
    cells = torch.zeros(1, 64, 2, dtype=torch.long)
    cells[0, :13, 0], cells[0, 13:24, 0], cells[0, :5, 1] = 4, 7, 4
    assert most_shown(cells).tolist() == [[4, 0]]


def test_light_and_tables_change_and_geometry_does_not(scenes: Path):
    plain, other = (teacher(scenes).lesson(np.arange(4), generator) for generator in (None, torch.Generator().manual_seed(0)))
    assert (plain.images - other.images).abs().mean() > 0.02
    assert torch.equal(plain.depth, other.depth) and torch.equal(plain.color, other.color)


def test_quaternions_are_scipys():
    from scipy.spatial.transform import Rotation

    turns = Rotation.random(50, rng=0)
    found = quaternion(torch.from_numpy(turns.as_matrix()).float())
    np.testing.assert_allclose(found.numpy(), turns.as_quat(canonical=True, scalar_first=True), atol=1e-6)


@pytest.mark.parametrize("part", ["geometry", "eye"])
def test_training_learns_and_writes_what_can_be_loaded(scenes: Path, tmp_path: Path, part: str, capsys: pytest.CaptureFixture):
    out = tmp_path / "weights.safetensors"
    training.train(part, scenes, out, steps=6, batch=2, peak=2e-3, every=3)
    losses = [sum(json.loads(line)["loss"].values()) for line in out.with_suffix(".jsonl").read_text().splitlines()]
    assert losses[1] < losses[0]
    loaded = load_vggt(str(out)) if part == "geometry" else load_eye(str(out))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_ridge_finds_a_linear_map():
    torch.manual_seed(0)
    tokens, truth = torch.randn(500, 6), torch.randn(7, 2, dtype=torch.float64)
    torch.testing.assert_close(ridge(tokens, with_one(tokens) @ truth), truth, atol=0.02, rtol=0)


def test_the_shipped_networks_are_the_trained_ones(scenes: Path):
    """Depth within what the card says of it (65 mm on average), which an untrained one misses by half a metre; colours as cells show them."""
    taught = teacher(scenes)
    networks = Networks("tabletop", "tabletop")
    found = depth_rows(networks, taught)
    assert all(found[view, "nearer than 1.2 m"]["error_mm"][0] < 110 for view in ("front", "wrist"))
    lesson = taught.lesson(np.arange(4), None)
    _, tokens = networks.see(lesson)
    thing = lesson.color < len(taught.colors)
    cells, color = tokens["semantic"][thing], lesson.color[thing]
    near = torch.cdist(cells, cells).fill_diagonal_(torch.inf).argmin(1)
    assert (color[near] == color).float().mean() > 0.8

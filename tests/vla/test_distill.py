"""`vla distill`: a flow policy becomes one of a single step; only the head is trained, and the run is one like any other."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_robot import ToyRobot

from robot_io import UserError
from vla.distill import distill
from vla.policy import Policy
from vla.train import train

FLOW = ("head={kind: flow, steps: 5, expert: {width: 16, depth: 1, condition: 8}}", "tuning.mode=lora", "tuning.vision=frozen")


@pytest.fixture(scope="module")
def teacher(toy_recipe: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(toy_recipe(*FLOW), tmp_path_factory.mktemp("runs") / "teacher", progress=False).policy_dir


@pytest.fixture(scope="module")
def student(teacher: Path) -> Path:
    options = ["train.steps=30", "train.learning_rate=1e-2"]
    return distill(teacher, teacher.parent.with_name("student"), options, progress=False).policy_dir


def observe():
    robot = ToyRobot()
    robot.reset(3)
    return robot.observe()


def test_only_the_head_differs_from_the_teacher(teacher: Path, student: Path):
    ours, theirs = Policy.load(student), Policy.load(teacher)
    assert type(ours.head).__name__ == "OneStep" and ours.recipe.head.teacher
    shared = [name for name, _ in theirs.named_parameters() if not name.startswith("head.")]
    assert shared
    for name in shared:
        assert torch.equal(ours.get_parameter(name), theirs.get_parameter(name)), name
    for statistics, other in zip(ours.normalizer.buffers(), theirs.normalizer.buffers(), strict=True):
        assert torch.equal(statistics, other)


def test_it_learns_the_teachers_chunks(student: Path):
    import json

    losses = [row["loss"] for row in map(json.loads, (student.parent / "metrics.jsonl").read_text().splitlines()) if "loss" in row]
    assert losses[-1] < losses[0]
    assert Policy.load(student).act([observe()], seed=1)[0].actions.shape == (4, 2)


def test_a_finished_run_is_not_done_again_and_another_teacher_not_gone_on_with(teacher: Path, student: Path, toy_recipe: Callable,
                                                                            tmp_path: Path):
    before = np.array([path.stat().st_mtime_ns for path in sorted(student.rglob("*"))])
    distill(teacher, student.parent, ["train.steps=30", "train.learning_rate=1e-2"], progress=False)
    assert np.array_equal(before, [path.stat().st_mtime_ns for path in sorted(student.rglob("*"))])
    other = train(toy_recipe(*FLOW, "train.seed=1", "train.steps=1"), tmp_path / "other", progress=False).policy_dir
    with pytest.raises(UserError, match=r"head\.teacher"):
        distill(other, student.parent, progress=False)


@pytest.mark.parametrize("override", ["horizon=8", "backbone.dim=32", "head={kind: flow}"])
def test_what_is_the_teachers_cannot_be_changed(teacher: Path, override: str, tmp_path: Path):
    with pytest.raises(UserError):
        distill(teacher, tmp_path / "run", [override], progress=False)
    assert not (tmp_path / "run").exists()


def test_a_head_that_cannot_teach_is_refused(toy_recipe: Callable, tmp_path: Path):
    tokens = train(toy_recipe("train.steps=1"), tmp_path / "tokens", progress=False).policy_dir
    with pytest.raises(UserError, match="noise"):
        distill(tokens, tmp_path / "run", progress=False)

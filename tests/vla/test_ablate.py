"""`vla.ablate`: the same recipe is trained once, everything resumes, and rows pool training seeds."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from robot_io import UserError
from vla.ablate import Cell, Grid, ablate, run
from vla.grids import GRIDS, find_grid
from vla.workers import executing, in_processes

SMALL = ("robot={kind: 'toy_robot:ToyRobot'}", "train.steps=2", "evaluation.max_steps=4")


@pytest.fixture
def grid(tmp_path: Path, demonstrations: Path) -> Grid:
    return Grid("toys", "toy", trials=2, seeds=(0, 1), common=(*SMALL, f"data.cache={tmp_path / 'cache'}"), cells=(
        Cell({"horizon": "4"}), Cell({"horizon": "6"}, ("horizon=6",)), Cell({"horizon": "four"}, ("horizon=4",))))


def test_equal_recipes_are_one_run_and_rows_pool_the_seeds(grid: Grid, tmp_path: Path, demonstrations: Path):
    rows = ablate(grid, tmp_path / "runs", demonstrations=demonstrations, command="vla ablate toys")
    assert len([folder for folder in (tmp_path / "runs").iterdir() if folder.is_dir()]) == 4  # two horizons, two seeds
    success = {row["cell"]["horizon"]: row for row in rows if row["metric"] == "success"}
    assert set(success) == {"4", "6", "four"}
    assert all(row["n"] == 4 and row["seeds"] == [20000, 20001] and row["low"] < row["high"] for row in success.values())
    assert success["4"]["mean"] == success["four"]["mean"] and success["4"]["recipe"] == success["four"]["recipe"]
    assert {row["metric"] for row in rows} == {"success", "wrong_object", "jerk_permille", "latency_ms", "latency_per_action_ms", "trainable_thousands",
                                               "train_memory_mb", "train_seconds", "success_seed_0", "success_seed_1"}


def test_whole_recipes_are_handed_out_where_there_are_others_to_take_them(grid: Grid, tmp_path: Path, demonstrations: Path):
    shares = []

    def backwards(setup, arguments, jobs, *, workers, noun):
        if noun == "seed":  # a cell's own trials
            yield from in_processes(setup, arguments, jobs, workers=workers, noun=noun)
            return
        shares.extend(jobs)
        work = setup(*pickle.loads(pickle.dumps(arguments)))
        for job in reversed(shares):
            yield job, pickle.loads(pickle.dumps(work(pickle.loads(pickle.dumps(job)))))

    grid = replace(grid, seeds=(0,))
    with executing(backwards):
        there = ablate(grid, tmp_path / "there", demonstrations=demonstrations)
    assert [str(share) for share in shares] == ["4, seed 0; four, seed 0", "6, seed 0"]
    assert [row["cell"]["horizon"] for row in there if row["metric"] == "success"] == ["4", "6", "four"]


def test_what_is_done_is_not_done_again(grid: Grid, tmp_path: Path, demonstrations: Path):
    options = {"demonstrations": demonstrations, "only": ["6"]}
    first = [(o.train_seconds, o.result.trials) for o in run(grid, tmp_path / "runs", **options)]
    again = [(o.train_seconds, o.result.trials) for o in run(grid, tmp_path / "runs", **options)]
    assert first == again  # to the microsecond: read, not measured


def test_a_bad_cell_is_refused_before_any_is_trained(tmp_path: Path, demonstrations: Path):
    grid = Grid("bad", "toy", cells=(Cell({"a": "good"}), Cell({"a": "bad"}, ("horizon=0",))), common=SMALL)
    with pytest.raises(UserError, match="horizon"):
        list(run(grid, tmp_path / "runs", demonstrations=demonstrations))
    assert not (tmp_path / "runs").exists()


def test_unknown_names_are_answered_with_the_nearest(grid: Grid, tmp_path: Path):
    with pytest.raises(UserError, match="backbones"):
        find_grid("backbone")
    with pytest.raises(UserError, match="cell '7'"):
        list(run(grid, tmp_path, only=["7"]))


@pytest.mark.parametrize("name", sorted(GRIDS))
def test_every_grid_that_is_reported_resolves(name: str):
    grid = find_grid(name)
    assert len({(grid.resolve(cell, 0).hash, cell.opened, cell.student) for cell in grid.cells}) == len(grid.cells)


def test_cells_that_are_opened_otherwise_or_distilled_share_one_training(grid: Grid, tmp_path: Path, demonstrations: Path):
    flow = ("head={kind: flow, steps: 3, expert: {width: 8, depth: 1, condition: 8}}",)
    grid = replace(grid, seeds=(0,), cells=(
        Cell({"steps": "3"}, flow), Cell({"steps": "1"}, flow, opened=("head.steps=1",)), Cell({"steps": "none"}, flow, student=()),
    ))
    as_trained, quick, student = run(grid, tmp_path / "runs", demonstrations=demonstrations)
    assert len(list((tmp_path / "runs").iterdir())) == 1
    assert as_trained.train_seconds == quick.train_seconds != student.train_seconds
    assert len({outcome.result.setting.recipe for outcome in (as_trained, quick, student)}) == 3
    assert len(list((tmp_path / "runs").glob("*/test*.jsonl"))) == 2


YAML = """
name: killed
recipe: toy
common: ["robot={{kind: 'toy_robot:ToyRobot'}}", evaluation.max_steps=4, "data.cache={cache}", train.save_every=2, train.steps=12]
trials: 3
factors:
  horizon: {{short: [horizon=4], long: [horizon=6]}}
"""


@pytest.mark.parametrize("event", ["*/checkpoints/*", "*/policy/recipe.yaml", "*/test.jsonl"])
def test_killed_at_any_time_it_goes_on_and_ends_the_same(tmp_path: Path, demonstrations: Path, event: str):
    """SIGKILL in training, after it or in evaluation; the same command then ends as if nothing had happened."""
    (tmp_path / "killed.yaml").write_text(YAML.format(cache=tmp_path / "cache"))
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-m", "vla.cli", "ablate", str(tmp_path / "killed.yaml"), "--data", str(demonstrations), "--run", str(tmp_path / "runs"),
         "--workers", "1"], cwd=root, env=os.environ | {"PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")])},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((tmp_path / "runs").glob(event)):
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -9, "it ended before it could be killed"
    grid = find_grid(str(tmp_path / "killed.yaml"))
    again = ablate(grid, tmp_path / "runs", demonstrations=demonstrations)
    unbroken = ablate(grid, tmp_path / "whole", demonstrations=demonstrations, only=["short"])
    assert {row["cell"]["horizon"] for row in again} == {"short", "long"}
    timeless = [{row["metric"]: row["mean"] for row in rows if row["cell"]["horizon"] == "short" and row["metric"] in ("success", "jerk_permille")}
                for rows in (again, unbroken)]
    assert timeless[0] == timeless[1] and len(timeless[0]) == 2
    run_folder = grid.resolve(grid.cells[0], 0).hash
    weights = [(root / run_folder / "policy" / "model.safetensors").read_bytes() for root in (tmp_path / "runs", tmp_path / "whole")]
    assert weights[0] == weights[1]
    assert "long" in (tmp_path / "runs" / "killed.html").read_text()

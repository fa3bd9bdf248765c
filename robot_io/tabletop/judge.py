"""When the instruction has been carried out, and when it no longer can be.

Picking is done when the object is 5 cm up and still at the fingers; placing when it lies in the bowl, let go. Where the object is
absent, nothing may be lifted until time is up, and lifting anything is the end. Heights are of an object's centre above where
it would stand on the table, m.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from robot_io.robot import Outcome
from robot_io.tabletop import scene

if TYPE_CHECKING:
    from robot_io.tabletop.robot import TabletopRobot

LIFTED, WRONG_LIFTED = 0.05, 0.03


def judge(robot: TabletopRobot, before: Outcome, max_steps: int) -> Outcome:
    """How the episode stands one control step after `before`; what once was right or wrong stays so."""
    wrong = before.wrong_object or any(thing.height >= WRONG_LIFTED for thing in robot.object_state() if not thing.target)
    steps = before.steps + 1
    late = steps >= max_steps
    if robot.layout.target is None:
        return Outcome(wrong or late, late and not wrong, wrong, steps)
    success = before.success or (_picked(robot) if robot.layout.bowl is None else _placed(robot))
    return Outcome(success or late, success, wrong, steps)


def _picked(robot: TabletopRobot) -> bool:
    target = robot.object_state()[robot.layout.target]
    near = np.linalg.norm(target.position - robot.tool()[0]) < 0.05
    return bool(target.height >= LIFTED and near)


def _placed(robot: TabletopRobot) -> bool:
    target = robot.object_state()[robot.layout.target]
    offset = target.position - robot.bowl_position()
    inside = np.linalg.norm(offset[:2]) < scene.BOWL_RADIUS and offset[2] < scene.BOWL_HEIGHT + target.half_width
    start = robot.model.joint(f"object{robot.layout.target}").dofadr[0]
    still = np.linalg.norm(robot.data.qvel[start:start + 3]) < 0.05
    return bool(inside and still and robot.opening() > 0.6)

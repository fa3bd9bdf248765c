"""Scenes to learn to see from: any objects, the arm anywhere it could be in an episode, without simulating one.

Three kinds: the tool anywhere over the table, the tool near an object as in an approach, and an object held in the fingers.
Poses in which the robot touches what it should not are drawn again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import mujoco
import numpy as np

from robot_io.tabletop import scene
from robot_io.tabletop.kinematics import HOME, rotation_matrix, tool_down
from robot_io.tabletop.layout import AREA_HIGH, AREA_LOW, draw_layout
from robot_io.tabletop.objects import grip_width

if TYPE_CHECKING:
    from robot_io.tabletop.robot import TabletopRobot

ANYWHERE, NEAR, HOLDING = range(3)
FREQUENCY = (0.35, 0.45, 0.2)
TILT, YAW = 0.06, 0.15  # spread of the tool's attitude, rad
ATTEMPTS = 30


def randomize(robot: TabletopRobot, rng: np.random.Generator) -> None:
    """Draw a scene and a pose of the arm; `robot` is then as after a reset."""
    task = robot.config.task
    robot.lay_out(draw_layout(task, rng, n_objects=int(rng.integers(1 + task.relation, task.distractors + 2))))
    kind = int(rng.choice(3, p=FREQUENCY))
    held = robot.layout.target
    if held is None:  # what was asked for is not there
        held = int(rng.integers(len(robot.layout.items)))
    for _ in range(ATTEMPTS):
        rotation = rotation_matrix(rng.normal(0, [TILT, TILT, 0])) @ tool_down(rng.uniform(-YAW, YAW))
        if kind == HOLDING:
            position = _anywhere(rng)
            opening = _hold(robot, rng, position, held)
        else:
            position = _near(robot, rng) if kind == NEAR else _anywhere(rng)
            opening = 1.0 if rng.random() < 0.7 else float(rng.uniform(0, 1))
        if robot.pose_arm(position, rotation, opening) < 1e-3 and not _collides(robot, held if kind == HOLDING else -1):
            return
    robot.pose_arm(np.array([0.45, 0.0, 0.2]), tool_down())


def _anywhere(rng: np.random.Generator) -> np.ndarray:
    low, high = (*(AREA_LOW - 0.04), 0.022), (*(AREA_HIGH + 0.04), 0.28)
    return rng.uniform(low, high)


def _near(robot: TabletopRobot, rng: np.random.Generator) -> np.ndarray:
    """Over some object, the closer the better aimed, as on the way down to a grasp."""
    thing = robot.layout.items[int(rng.integers(len(robot.layout.items)))]
    height = 0.15 * rng.random() ** 1.5
    lateral = rng.normal(0, 0.006 + 0.25 * height, 2)
    return np.array([*(np.array(thing.position) + lateral), 0.0225 + height])


def _hold(robot: TabletopRobot, rng: np.random.Generator, position: np.ndarray, held: int) -> float:
    """Put an object between the fingers; returns the opening that fits it."""
    position[2] = rng.uniform(0.03, 0.25)
    item = robot.layout.items[held]
    offset = rng.normal(0, 0.003, 3)
    yaw = rng.choice(4) * np.pi / 2
    robot.place_object(held, position + offset, yaw)
    return float(np.clip(1 - (0.085 - grip_width(item.shape, item.half_width, yaw)) / 0.0865, 0, 1))


def _collides(robot: TabletopRobot, held: int) -> bool:
    """Whether the robot, or what it holds (-1: nothing), digs into something else."""
    for pair, distance in zip(robot.data.contact.geom, robot.data.contact.dist, strict=True):
        slots = [robot.slot_of_geom.get(int(geom)) for geom in pair]
        touches_robot = any(robot.belongs_to_robot(int(geom)) for geom in pair)
        if distance < -0.001 and held not in slots and (touches_robot or held >= 0):
            return True
    return False


def measure_linkage(model: mujoco.MjModel, linkage: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Openings `[N]` (rising) and the gripper's joint positions at them `[N, 8]`: close it slowly in a copy of the world."""
    data = mujoco.MjData(model)
    data.qpos[:6] = HOME
    data.ctrl[:6] = HOME
    openings, positions = [], []
    for control in np.linspace(0, 255, 25):
        data.ctrl[6] = control
        mujoco.mj_step(model, data, 40)
        positions.append(data.qpos[linkage].copy())
        openings.append(1 - data.joint(f"{scene.GRIPPER}right_driver_joint").qpos[0] / 0.8)
    return np.array(openings[::-1]), np.array(positions[::-1])

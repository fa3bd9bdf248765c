import os
import subprocess
import sys

import numpy as np
import pytest

from robot_io.tabletop import scene
from robot_io.tabletop.objects import half_height
from robot_io.tabletop.robot import ROBOT_MASK, TabletopRobot


@pytest.fixture(scope="module")
def robot():
    robot = TabletopRobot(task={"distractors": 2, "bowls": 1})
    yield robot
    robot.close()


def back_project(frame):
    """`float64 [H, W, 3]`: where each pixel's ray meets the scene, in the world."""
    rows, columns = np.indices(frame.depth.shape)
    rays = np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(frame.intrinsics.astype(float)).T
    return rays * frame.depth[..., None] @ frame.world_from_camera[:3, :3].T.astype(float) + frame.world_from_camera[:3, 3]


@pytest.mark.parametrize("camera", scene.CAMERAS)
@pytest.mark.parametrize("seed", [0, 1])
def test_depth_lands_on_the_true_geometry(robot, camera, seed):
    robot.reset(seed)
    for _ in range(3):
        robot.act(np.array([0.02, 0.01, -0.01, 0, 0, 0.1, 1]))  # cameras must keep up with the arm
    frame, mask = robot.observe().cameras[camera], robot.masks()[camera]
    points = back_project(frame)
    table = (mask == 0) & (np.abs(points[..., 0] - 0.4) < 0.65) & (np.abs(points[..., 1]) < 0.7)
    assert table.sum() > 2000
    assert np.abs(points[table][:, 2]).max() < 0.003
    seen = 0
    for thing, item in zip(robot.object_state(), robot.layout.items, strict=True):
        if (mask == thing.id).sum() < 20:
            continue
        seen += 1
        offset = points[mask == thing.id] - thing.position
        if item.shape == "ball":
            radius = np.linalg.norm(offset, axis=1)
            assert np.abs(radius - 1.08 * item.half_width).max() < 0.003
        else:
            height = half_height(item.shape, item.half_width)
            assert np.abs(offset[:, 2]).max() < height + 0.003
            assert np.linalg.norm(offset[:, :2], axis=1).max() < np.sqrt(2) * item.half_width + 0.003
    assert seen >= 2


def test_the_object_between_the_fingers_is_in_sight(robot):
    robot.reset(2)
    target = robot.object_state()[robot.layout.target]
    robot.pose_arm(np.array([*target.position[:2], 0.0225]), np.diag([1.0, -1.0, -1.0]))
    assert (robot.masks()["wrist"] == target.id).sum() > 300


def test_masks_know_robot_bowl_and_objects(robot):
    robot.reset(0)
    ids = np.unique(robot.masks()["front"])
    assert {0, 1, 2, 3, 4, ROBOT_MASK} == set(ids.tolist())  # three objects, then the bowl


def run(code, **env):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | env, check=False)


OBSERVE = "from robot_io.tabletop.env import TabletopRobot\nrobot = TabletopRobot(image_size=64)\nrobot.reset(0)\nrobot.observe()"


def test_a_forgotten_robot_leaves_quietly():
    done = run(OBSERVE)
    assert done.returncode == 0 and done.stderr == ""


def test_without_opengl_one_message_says_what_to_install():
    assert "apt-get install libegl1" in run(OBSERVE, MUJOCO_GL="off").stderr.splitlines()[-1]

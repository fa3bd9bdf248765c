
import mujoco
import numpy as np
import pytest

from robot_io.tabletop.expert import Expert
from robot_io.tabletop.kinematics import tool_down
from robot_io.tabletop.layout import Item, Layout
from robot_io.tabletop.objects import ALL as SHAPES
from robot_io.tabletop.objects import MORE_SHAPES, NAMED, SIZE, UNSEEN, half_height
from robot_io.tabletop.robot import TabletopRobot

SPOTS = [(0.38, -0.12), (0.38, 0.0), (0.38, 0.12), (0.50, -0.12), (0.50, 0.0), (0.50, 0.12)]
NEW = sorted(MORE_SHAPES | UNSEEN)


@pytest.fixture(scope="module")
def robot():
    robot = TabletopRobot(task={"clutter": "unseen", "distractors": 5})
    yield robot
    robot.close()


def show(robot, shapes, texture=""):
    items = tuple(Item(shape, "red", SIZE, (0.8, 0.1, 0.1), spot, 0.3, texture) for shape, spot in zip(shapes, SPOTS, strict=False))
    robot.lay_out(Layout(items, (), 0, None, "pick up"))
    robot.pose_arm(np.array([0.40, 0.0, 0.35]), tool_down())


@pytest.mark.parametrize("start", range(0, len(NEW), 6))
def test_a_slot_becomes_any_shape_and_stands_still(robot, start):
    shapes = NEW[start:start + 6]
    show(robot, shapes)
    observation, masks = robot.observe(), robot.masks()
    frame = observation.cameras["front"]
    for i, thing in enumerate(robot.object_state()):
        seen = masks["front"] == thing.id
        assert seen.sum() > 40
        rows, columns = np.nonzero(seen)
        rays = np.stack([columns, rows, np.ones_like(rows)], -1) @ np.linalg.inv(frame.intrinsics.astype(float)).T
        points = rays * frame.depth[seen][:, None] @ frame.world_from_camera[:3, :3].T.astype(float) + frame.world_from_camera[:3, 3]
        top = half_height(shapes[i], SIZE) + SIZE * max(part.reach((0.0, 0.0, 1.0)) for part in SHAPES[shapes[i]])
        assert np.abs(points[:, 2].max() - top) < 0.006 and points[:, 2].min() > -0.003
        assert np.linalg.norm(points[:, :2] - SPOTS[i], axis=1).max() < 0.04
    mujoco.mj_step(robot.model, robot.data, 250)
    for thing, spot in zip(robot.object_state(), SPOTS, strict=False):
        assert abs(thing.height) < 0.003 and np.linalg.norm(thing.position[:2] - spot) < 0.004


def test_textures_show_and_go_again(robot):
    def shown():
        frame = robot.observe().cameras["front"]
        return np.concatenate([frame.rgb[robot.masks()["front"] == i + 1] for i in range(6)]).astype(int)

    show(robot, ["gear"] * 6)
    plain = shown()
    show(robot, ["gear"] * 6, "checkered")
    assert np.abs(shown() - plain).mean() > 5
    show(robot, ["gear"] * 6)
    np.testing.assert_array_equal(shown(), plain)


def test_basic_shapes_look_and_move_the_same_with_blank_geoms_beside_them():
    plain, blank = TabletopRobot(image_size=64), TabletopRobot(image_size=64, task={"shapes": ("cube", "mug")})
    plain.reset(2)
    layout, states = plain.layout, []
    for robot in (plain, blank):
        robot.lay_out(layout)
        robot.pose_arm(np.array([0.45, 0.0, 0.20]), tool_down())
        expert = Expert(robot)
        while not robot.outcome().done:
            robot.act(expert.decide()[1])
        assert robot.outcome().success
        states.append((robot.state(), robot.observe().cameras["front"].rgb))
        robot.close()
    np.testing.assert_array_equal(*(state for state, _ in states))
    np.testing.assert_array_equal(*(rgb for _, rgb in states))


@pytest.mark.parametrize("shapes", [("mug", "arch"), ("ring", "star"), ("bottle", "tee")], ids="-".join)
def test_the_expert_picks_what_the_new_shapes_are(shapes):
    robot = TabletopRobot(task={"distractors": 1, "shapes": shapes})
    expert = Expert(robot)
    for seed in range(2):
        robot.reset(seed)
        while not robot.outcome().done:
            robot.act(expert.decide()[1])
        assert robot.outcome().success and not robot.outcome().wrong_object


def test_random_scenes_hold_new_objects_too():
    robot = TabletopRobot(task={"distractors": 7, "shapes": tuple(NAMED), "pairs": "seen"})
    held = set()
    for seed in range(60):
        robot.randomize(seed)
        things = robot.object_state()
        assert len(things) <= 8 and all(thing.height > -0.001 for thing in things)
        assert robot.data.contact.dist.min(initial=0) > -0.02
        held |= {thing.shape for thing in things if thing.height > 0.01}
    assert len(held & MORE_SHAPES.keys()) >= 2

"""LeRobot's robots, the ROS 2 bridge and the replay, each against something that follows the interface it speaks to."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from toy_robot import Expert, ToyRobot

from robot_io import ROBOTS, UserError
from robot_io.dataset import Recorder
from robot_io.robots.lerobot import LeRobotRobot
from robot_io.robots.replay import Replay
from robot_io.robots.ros2 import Ros2
from robot_io.runner import Runner


class PluginArm:
    """Follows `lerobot.robots.Robot`: flat features, `connect`, `get_observation`, `send_action`, `disconnect`."""

    name = "plugin_arm"

    def __init__(self, port: str = "/dev/null") -> None:
        self.port, self.is_connected, self.sent = port, False, []
        self.joints = {"shoulder.pos": 10.0, "elbow.pos": -20.0, "gripper.pos": 50.0}

    @property
    def observation_features(self) -> dict:
        return {**dict.fromkeys(self.joints, float), "front": (48, 64, 3)}

    @property
    def action_features(self) -> dict:
        return dict.fromkeys(self.joints, float)

    def connect(self, calibrate: bool = True) -> None:
        self.is_connected = True

    def get_observation(self) -> dict:
        return {**self.joints, "front": np.full((48, 64, 3), 77, np.uint8)}

    def send_action(self, action: dict) -> dict:
        self.sent.append(action)
        self.joints = dict(action)
        return action

    def disconnect(self) -> None:
        self.is_connected = False


def test_a_lerobot_robot_is_a_robot() -> None:
    arm = PluginArm()
    robot = LeRobotRobot(robot=arm, instruction="wave", rate_hz=100.0, image_size=32, low={"elbow.pos": -90.0})
    action = robot.spec.action
    assert action.names == ("shoulder.pos", "elbow.pos", "gripper.pos") and action.gripper == 2
    assert action.low == (-180.0, -90.0, 0.0) and action.high == (180.0, 180.0, 100.0) and set(action.modes) == {"absolute"}
    seen = robot.observe()
    assert seen.state.tolist() == [10, -20, 50] and seen.cameras["front"].rgb.shape == (32, 32, 3) and seen.instruction == "wave"
    robot.act(np.array([11, -21, 100], np.float32))
    assert arm.sent == [{"shoulder.pos": 11.0, "elbow.pos": -21.0, "gripper.pos": 100.0}]
    robot.close()
    assert not arm.is_connected


def test_a_lerobot_class_of_your_own_is_found_by_its_address_and_mistakes_are_named() -> None:
    config = ROBOTS.configure({"kind": "lerobot", "type": "test_robots_others:PluginArm", "options": {"port": "/dev/x"}})
    sys.modules.setdefault("test_robots_others", sys.modules[__name__])
    assert ROBOTS.load("lerobot")(config).robot.port == "/dev/x"
    with pytest.raises(UserError, match=r"did you mean 'elbow\.pos'"):
        LeRobotRobot(robot=PluginArm(), low={"elbw.pos": 0.0})
    arm = PluginArm()
    robot = LeRobotRobot(robot=arm)
    arm.get_observation = lambda: {"front": None}
    with pytest.raises(UserError, match=r"lacks shoulder\.pos, elbow\.pos, gripper\.pos"):
        robot.observe()


@pytest.fixture
def ros(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The part of rclpy and of its messages that the bridge uses; `publish(topic, message)` is the other side."""
    subscriptions, published, spinning = {}, [], threading.Event()

    class Node:
        def create_publisher(self, kind, topic, depth):
            return SimpleNamespace(publish=lambda message: published.append((topic, message)))

        def create_subscription(self, kind, topic, callback, depth):
            subscriptions[topic] = callback

        def destroy_node(self) -> None:
            pass

    class Executor:
        def add_node(self, node) -> None:
            pass

        def spin(self) -> None:
            spinning.wait(10)

        def shutdown(self) -> None:
            spinning.set()

    class Point(SimpleNamespace):
        def __init__(self, positions: list[float]) -> None:
            super().__init__(positions=positions, time_from_start=SimpleNamespace(sec=0, nanosec=0))

    modules = {
        "rclpy": {"ok": lambda: True, "create_node": lambda name: Node(), "executors": SimpleNamespace(SingleThreadedExecutor=Executor)},
        "sensor_msgs.msg": {"JointState": object, "Image": object, "CameraInfo": object},
        "trajectory_msgs.msg": {"JointTrajectory": SimpleNamespace, "JointTrajectoryPoint": Point},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return SimpleNamespace(publish=lambda topic, message: subscriptions[topic](message), published=published)


def test_ros_topics_become_observations_and_actions_a_trajectory(ros: SimpleNamespace) -> None:
    robot = Ros2(joints=("a", "b"), low=(-1, -1), high=(1, 1), rate_hz=50.0, stale=0.2,
                 cameras={"front": {"image": "/cam/image", "info": "/cam/info", "height": 8, "width": 8}})
    stamp = SimpleNamespace(sec=5, nanosec=500_000_000)
    ros.publish("/joint_states", SimpleNamespace(name=["b", "a"], position=[0.2, 0.1], header=SimpleNamespace(stamp=stamp)))
    ros.publish("/cam/info", SimpleNamespace(k=[20, 0, 8, 0, 20, 8, 0, 0, 1]))
    rows = np.zeros((16, 20 * 3), np.uint8)  # rows are padded to 20 pixels
    rows[:, 0:48:3] = 200  # blue, in bgr8
    ros.publish("/cam/image", SimpleNamespace(encoding="bgr8", height=16, width=16, step=60, data=rows.tobytes()))
    seen = robot.observe()
    np.testing.assert_allclose(seen.state, [0.1, 0.2])
    assert seen.time == 5.5 and seen.cameras["front"].rgb[..., 2].min() == 200 and seen.cameras["front"].rgb[..., :2].max() == 0
    np.testing.assert_allclose(seen.cameras["front"].intrinsics[[0, 1], [0, 1]], [10, 10])
    robot.act(np.array([0.3, 0.4], np.float32))
    topic, message = ros.published[0]
    assert topic == "/joint_trajectory_controller/joint_trajectory" and message.joint_names == ["a", "b"]
    assert message.points[0].positions == pytest.approx([0.3, 0.4]) and message.points[0].time_from_start.nanosec == 20_000_000
    threading.Event().wait(0.3)
    with pytest.raises(UserError, match="joint states on topic '/joint_states': the last is"):
        robot.observe()
    robot.close()


def test_without_ros_it_says_what_to_source() -> None:
    with pytest.raises(UserError, match="source your ROS 2 installation"):
        Ros2(joints=("a",), low=(-1,), high=(1,))


def test_a_recording_can_be_driven_and_tells_who_agrees_with_it(tmp_path: Path) -> None:
    toy = ToyRobot(rate_hz=50.0)
    recorder = Recorder(tmp_path / "data", toy.spec, codec="lossless")
    for seed in range(2):
        toy.reset(seed)
        expert = Expert(toy)
        while not toy.outcome().done:
            seen = toy.observe()
            action = expert.infer(seen).actions[0]
            recorder.add(seen, action)
            toy.act(action)
        recorder.save_episode(True)

    robot = Replay(root=tmp_path / "data")
    robot.reset(1)
    toy.reset(1)
    np.testing.assert_array_equal(robot.observe().cameras["front"].rgb, toy.observe().cameras["front"].rgb)
    report = Runner(robot, Expert(toy), execute=1).run(seconds=20)
    assert report.reason == "done" and robot.differences().max() < 0.3
    robot.reset(1)
    while not robot.outcome().done:
        robot.act(-robot._actions[len(robot._sent)])
    assert not robot.outcome().success
    with pytest.raises(UserError, match="does not say what robot"):
        Replay(root=Path(__file__).parent.parent / "fixtures" / "lerobot_v3_sample")

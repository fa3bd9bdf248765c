"""A ROS 2 bridge: cameras, joint states and targets over topics, so that whatever ROS drives can be driven.

Reads `sensor_msgs/JointState` and, per camera, `sensor_msgs/Image` with its `CameraInfo`; writes one
`trajectory_msgs/JointTrajectory` with a single point a period ahead, which ros2_control's joint trajectory controllers take. Messages are
received on a thread of the node's own; `observe` returns the newest and refuses stale ones.

It needs a sourced ROS 2 (`rclpy` is no package of the usual registries). Tried here on stand-ins for rclpy and its messages, not on a robot.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from robot_io.errors import UserError
from robot_io.execution.pace import Pace
from robot_io.registry import ComponentConfig
from robot_io.robots.cameras import fit
from robot_io.robots.packages import need
from robot_io.specs import ActionSpec, CameraSpec, ObservationSpec, RobotSpec
from robot_io.types import CameraFrame, Observation

REMEDY = "source your ROS 2 installation (`source /opt/ros/DISTRO/setup.bash`) before Python starts"
COLOURS = {"rgb8": slice(None), "bgr8": slice(None, None, -1)}


class Topic(BaseModel):
    """A camera's topics."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str
    info: str | None = None
    height: int = Field(128, ge=8)
    width: int = Field(128, ge=8)


class Ros2:
    """A robot behind ROS 2 topics. Build it from a `Config` or from its fields."""

    class Config(ComponentConfig):
        """Which topics, and what they mean.

        Attributes:
            joints: names in the order of state and action, as in the joint states.
            low, high: joint limits, rad.
            cameras: topics by the names that the policy knows.
            states, targets: topics of the joint states and of the trajectory controller.
            stale: the oldest message worth anything, seconds.
        """

        kind: Literal["ros2"] = "ros2"
        joints: tuple[str, ...]
        low: tuple[float, ...]
        high: tuple[float, ...]
        cameras: dict[str, Topic] = {}  # noqa: RUF012
        states: str = "/joint_states"
        targets: str = "/joint_trajectory_controller/joint_trajectory"
        instruction: str = ""
        rate_hz: float = Field(10.0, gt=0)
        stale: float = Field(0.5, gt=0)

    def __init__(self, config: Config | None = None, **options: object) -> None:
        self.config = config = config or self.Config(**options)
        units = ("rad",) * len(config.joints)
        cameras = tuple(CameraSpec(name, topic.height, topic.width) for name, topic in config.cameras.items())
        self.spec = RobotSpec("ros2", ObservationSpec(cameras, config.joints, units), ActionSpec(
            config.joints, units, config.low, config.high, ("absolute",) * len(units), config.rate_hz, frame="joint"))
        self._newest: dict[str, tuple[Any, float]] = {}
        self._intrinsics: dict[str, np.ndarray] = {}
        self._pace = Pace(config.rate_hz)
        self._rclpy = need("rclpy", "robot 'ros2'", REMEDY)
        self._trajectories = need("trajectory_msgs.msg", "robot 'ros2'", REMEDY)
        self._listen(need("sensor_msgs.msg", "robot 'ros2'", REMEDY))

    def observe(self) -> Observation:
        state = self._fresh("joint states", self.config.states)
        by_name = dict(zip(state.name, state.position, strict=True))
        if missing := [name for name in self.config.joints if name not in by_name]:
            raise UserError(f"topic '{self.config.states}'", f"lacks {', '.join(missing)}; it has {', '.join(by_name)}", "every joint",
                            "correct robot.joints")
        frames = {name: self._frame(name, topic) for name, topic in self.config.cameras.items()}
        stamp = state.header.stamp
        return Observation(frames, np.array([by_name[name] for name in self.config.joints], np.float32), self.config.instruction,
                           stamp.sec + 1e-9 * stamp.nanosec)

    def act(self, action: np.ndarray) -> None:
        """Publish one target, to be reached a period from now; return when the next one is due."""
        self._pace.wait()
        period = round(1e9 / self.config.rate_hz)
        point = self._trajectories.JointTrajectoryPoint(positions=[float(value) for value in action])
        point.time_from_start.sec, point.time_from_start.nanosec = divmod(period, 10**9)
        self._publisher.publish(self._trajectories.JointTrajectory(joint_names=list(self.config.joints), points=[point]))

    def close(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        self._thread.join(2.0)

    def _listen(self, messages: Any) -> None:
        if not self._rclpy.ok():
            self._rclpy.init()
        self._node = self._rclpy.create_node("swapvla")
        self._publisher = self._node.create_publisher(self._trajectories.JointTrajectory, self.config.targets, 1)
        self._subscribe(messages.JointState, self.config.states)
        for name, topic in self.config.cameras.items():
            self._subscribe(messages.Image, topic.image)
            if topic.info is not None:
                self._node.create_subscription(messages.CameraInfo, topic.info, lambda info, name=name: self._intrinsics.update(
                    {name: np.array(info.k, np.float32).reshape(3, 3)}), 1)
        self._executor = self._rclpy.executors.SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True, name="ros2")
        self._thread.start()

    def _subscribe(self, kind: Any, topic: str) -> None:
        self._node.create_subscription(kind, topic, lambda message: self._newest.update({topic: (message, time.monotonic())}), 1)

    def _fresh(self, what: str, topic: str, patience: float = 5.0) -> Any:
        """The newest message of a topic; the first may take a while."""
        deadline = time.monotonic() + patience
        while topic not in self._newest and time.monotonic() < deadline:
            time.sleep(0.01)
        message, received = self._newest.get(topic, (None, -np.inf))
        if (age := time.monotonic() - received) > self.config.stale:
            raise UserError(f"{what} on topic '{topic}'", "none has come" if message is None else f"the last is {age:.1f} s old",
                            f"one of the last {self.config.stale:g} s", "check the topic's name (`ros2 topic hz`) and its publisher")
        return message

    def _frame(self, name: str, topic: Topic) -> CameraFrame:
        image = self._fresh(f"camera '{name}'", topic.image)
        if image.encoding not in COLOURS:
            raise UserError(f"camera '{name}'", f"encoding '{image.encoding}'", f"one of {', '.join(COLOURS)}", "republish it as rgb8")
        rows = np.frombuffer(bytes(image.data), np.uint8).reshape(image.height, image.step)[:, : 3 * image.width]
        rgb = np.ascontiguousarray(rows.reshape(image.height, image.width, 3)[:, :, COLOURS[image.encoding]])
        return fit(CameraFrame(rgb, intrinsics=self._intrinsics.get(name)), topic.height, topic.width)

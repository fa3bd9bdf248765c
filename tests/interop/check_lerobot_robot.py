"""Our `lerobot` robot against LeRobot itself: a robot registered there as a plugin would register it, found by its type and driven.

    PYTHONPATH=. PYTHON tests/interop/check_lerobot_robot.py

PYTHON has this project's dependencies and LeRobot (checked with 0.4.4; `pip install lerobot` in an environment of its own). No arm is needed,
and none has been tried.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import lerobot
import numpy as np
from lerobot.cameras import CameraConfig
from lerobot.cameras.opencv import OpenCVCameraConfig
from lerobot.robots import Robot, RobotConfig

from robot_io import ROBOTS, UserError
from robot_io.robots import lerobot as ours


@RobotConfig.register_subclass("pretend_follower")
@dataclass
class PretendFollowerConfig(RobotConfig):
    port: str = ""
    cameras: dict[str, CameraConfig] = field(default_factory=dict)


class PretendFollower(Robot):
    """LeRobot finds it beside its configuration, by its name, as it finds a plugin's."""

    config_class, name = PretendFollowerConfig, "pretend_follower"

    def __init__(self, config: PretendFollowerConfig) -> None:
        super().__init__(config)
        self.config, self._connected = config, False
        self.joints = {"shoulder.pos": 1.0, "gripper.pos": 50.0}

    @property
    def observation_features(self) -> dict:
        return {**dict.fromkeys(self.joints, float), **{name: (c.height, c.width, 3) for name, c in self.config.cameras.items()}}

    @property
    def action_features(self) -> dict:
        return dict.fromkeys(self.joints, float)

    is_connected = property(lambda self: self._connected)
    is_calibrated = property(lambda self: True)

    def connect(self, calibrate: bool = True) -> None:
        self._connected = True

    def calibrate(self) -> None: ...

    def configure(self) -> None: ...

    def get_observation(self) -> dict:
        return {**self.joints, **{name: np.zeros((c.height, c.width, 3), np.uint8) for name, c in self.config.cameras.items()}}

    def send_action(self, action: dict) -> dict:
        self.joints = dict(action)
        return action

    def disconnect(self) -> None:
        self._connected = False


def main() -> None:
    config = ROBOTS.configure({"kind": "lerobot", "type": "pretend_follower", "rate_hz": 50, "options": {
        "port": "/dev/x", "cameras": {"front": {"type": "opencv", "index_or_path": 0, "width": 64, "height": 48, "fps": 30}}}})
    robot = ROBOTS.load("lerobot")(config)
    assert isinstance(robot.robot, PretendFollower) and robot.robot.config.port == "/dev/x"
    assert isinstance(robot.robot.config.cameras["front"], OpenCVCameraConfig), "nested configurations are LeRobot's own"
    assert robot.spec.action.names == ("shoulder.pos", "gripper.pos") and robot.spec.action.gripper == 1
    assert robot.observe().cameras["front"].rgb.shape == (224, 224, 3)
    robot.act(np.array([2.0, 100.0], np.float32))
    assert robot.robot.joints == {"shoulder.pos": 2.0, "gripper.pos": 100.0}
    robot.close()
    assert not robot.robot.is_connected
    try:
        ours.make(ours.LeRobotRobot.Config(type="so101_folower"))
    except UserError as error:
        assert "did you mean 'so101_follower'" in str(error), error
    print(f"all checks pass with LeRobot {getattr(lerobot, '__version__', '?')}")


if __name__ == "__main__":
    main()

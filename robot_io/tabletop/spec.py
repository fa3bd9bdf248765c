"""The tabletop robot's written contract: that of any such arm (`robot_io.arm`), at ten steps a second, with two RGB-D cameras."""

from __future__ import annotations

from robot_io.arm import arm_spec
from robot_io.specs import CameraSpec, RobotSpec
from robot_io.tabletop.scene import CAMERAS

RATE_HZ = 10.0


def make_spec(image_size: int, action_space: str) -> RobotSpec:
    """The contract for pictures of `image_size` pixels and an action space, `ee_delta` or `joint`."""
    cameras = tuple(CameraSpec(name, image_size, image_size, depth=True) for name in CAMERAS)
    return arm_spec("tabletop", cameras, action_space, RATE_HZ)

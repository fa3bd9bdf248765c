"""The tabletop robot's written contract: what its state and actions mean, in which units, within which limits."""

from __future__ import annotations

import numpy as np

from robot_io.specs import ActionSpec, CameraSpec, ObservationSpec, RobotSpec
from robot_io.tabletop.scene import ARM_JOINTS, CAMERAS

RATE_HZ = 10.0
STEP_LIMIT, TURN_LIMIT = 0.02, 0.2  # a control step's largest move along one axis, m and rad
JOINTS = tuple(name.removesuffix("_joint") for name in ARM_JOINTS)
STATE = ("tool_x", "tool_y", "tool_z", *(f"tool_rot6d_{i}" for i in range(6)), "gripper_opening", *JOINTS)


def make_spec(image_size: int, action_space: str) -> RobotSpec:
    """The contract for pictures of `image_size` pixels and an action space, `ee_delta` or `joint`."""
    cameras = tuple(CameraSpec(name, image_size, image_size, depth=True) for name in CAMERAS)
    observation = ObservationSpec(cameras, STATE, ("m",) * 3 + ("1",) * 7 + ("rad",) * 6)
    if action_space == "ee_delta":
        names, units, modes = ("x", "y", "z", "rx", "ry", "rz"), ("m",) * 3 + ("rad",) * 3, ("delta",) * 6
        frame, rotation, high = "base", "rotvec", (STEP_LIMIT,) * 3 + (TURN_LIMIT,) * 3
    else:
        names, units, modes = JOINTS, ("rad",) * 6, ("absolute",) * 6
        frame, rotation, high = "joint", "none", tuple(np.pi if name == "elbow" else 2 * np.pi for name in JOINTS)
    low = tuple(-value for value in high)
    action = ActionSpec((*names, "gripper"), (*units, "1"), (*low, 0.0), (*high, 1.0), (*modes, "absolute"),
                        RATE_HZ, frame, rotation, gripper=6)
    return RobotSpec("tabletop", observation, action)

"""The written contract of a six-joint arm with a gripper, shared by the simulated and the real UR: what its state and actions mean.

State, `float32 [16]`: tool position (m, base frame), the first two columns of its rotation matrix (Zhou et al., 2019), gripper opening
(0 closed … 1 open), joint positions (rad). Actions, `float32 [7]`: `ee_delta` moves the commanded tool pose by `x y z` (m) and a rotation
vector (rad), both in the base frame; `joint` names joint positions (rad). The last number is the gripper, 1 open … 0 closed. A policy
trained on one such arm is for this contract, and so may be tried on another that keeps it.
"""

from __future__ import annotations

import numpy as np

from robot_io.specs import ActionSpec, CameraSpec, ObservationSpec, RobotSpec

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")
STATE = ("tool_x", "tool_y", "tool_z", *(f"tool_rot6d_{i}" for i in range(6)), "gripper_opening", *JOINTS)
STEP_LIMIT, TURN_LIMIT = 0.02, 0.2  # a control step's largest move along one axis, m and rad


def arm_spec(robot: str, cameras: tuple[CameraSpec, ...], action_space: str, rate_hz: float) -> RobotSpec:
    """The contract for an action space, `ee_delta` or `joint`."""
    observation = ObservationSpec(cameras, STATE, ("m",) * 3 + ("1",) * 7 + ("rad",) * 6)
    if action_space == "ee_delta":
        names, units, modes = ("x", "y", "z", "rx", "ry", "rz"), ("m",) * 3 + ("rad",) * 3, ("delta",) * 6
        frame, rotation, high = "base", "rotvec", (STEP_LIMIT,) * 3 + (TURN_LIMIT,) * 3
    else:
        names, units, modes = JOINTS, ("rad",) * 6, ("absolute",) * 6
        frame, rotation, high = "joint", "none", tuple(np.pi if name == "elbow" else 2 * np.pi for name in JOINTS)
    low = tuple(-value for value in high)
    action = ActionSpec((*names, "gripper"), (*units, "1"), (*low, 0.0), (*high, 1.0), (*modes, "absolute"),
                        rate_hz, frame, rotation, gripper=6)
    return RobotSpec(robot, observation, action)


def arm_state(position: np.ndarray, rotation: np.ndarray, opening: float, joints: np.ndarray) -> np.ndarray:
    """`float32 [16]`, as the header says, from the tool's position and rotation matrix."""
    return np.concatenate([position, rotation[:, 0], rotation[:, 1], [opening], joints]).astype(np.float32)

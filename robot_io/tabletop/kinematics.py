"""Forward and inverse kinematics of the arm on a model of its own, so that solving never touches the simulation.

Inverse kinematics is damped least squares (Wampler, 1986): dq = J^T (J J^T + d^2 I)^-1 e, a few times over. Positions in metres
and rotation matrices `float64 [3, 3]` in the base frame, joints `float64 [6]` in radians.
"""

from __future__ import annotations

import mujoco
import numpy as np

from robot_io.tabletop.scene import ARM_JOINTS, GRIPPER, build_arm

# Elbow up, tool down, fingers opening sideways, camera on the robot's side.
HOME = np.array([2.85, -1.63, 1.92, -1.86, -1.57, -0.29])


class Kinematics:
    """Where the tool is for given joints, and which joints put it somewhere."""

    def __init__(self, damping: float = 0.03) -> None:
        self.model = build_arm()
        self.data = mujoco.MjData(self.model)
        self.site = self.model.site(f"{GRIPPER}pinch").id
        self.low, self.high = self.model.jnt_range[[self.model.joint(name).id for name in ARM_JOINTS]].T
        self._damping = damping**2 * np.eye(6)
        self._jacobian = np.zeros((6, self.model.nv))

    def forward(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position and rotation of the tool."""
        self.data.qpos[:] = joints
        mujoco.mj_kinematics(self.model, self.data)
        return self.data.site_xpos[self.site].copy(), self.data.site_xmat[self.site].reshape(3, 3).copy()

    def inverse(self, start: np.ndarray, position: np.ndarray, rotation: np.ndarray, *, iterations: int = 20,
                tolerance: float = 1e-4) -> tuple[np.ndarray, float]:
        """Joints near `start` that bring the tool to a pose, and the error left (metres and radians, the larger)."""
        joints = np.array(start, float)
        for _ in range(iterations):
            error = self._error(joints, position, rotation)
            if np.abs(error).max() < tolerance:
                break
            mujoco.mj_comPos(self.model, self.data)
            mujoco.mj_jacSite(self.model, self.data, self._jacobian[:3], self._jacobian[3:], self.site)
            gram = self._jacobian @ self._jacobian.T + self._damping
            step = self._jacobian.T @ np.linalg.solve(gram, error)
            joints = np.clip(joints + step / max(1.0, np.abs(step).max() / 0.5), self.low, self.high)
        return joints, float(np.abs(self._error(joints, position, rotation)).max())

    def _error(self, joints: np.ndarray, position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        at, facing = self.forward(joints)
        return np.concatenate([position - at, rotation_vector(rotation @ facing.T)])


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Axis times angle of a rotation matrix."""
    quat, vector = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quat, rotation.ravel())
    mujoco.mju_quat2Vel(vector, quat, 1.0)
    return vector


def rotation_matrix(vector: np.ndarray) -> np.ndarray:
    """The inverse of `rotation_vector`."""
    angle = float(np.linalg.norm(vector))
    quat, matrix = np.array([1.0, 0, 0, 0]), np.empty(9)
    if angle > 1e-12:
        mujoco.mju_axisAngle2Quat(quat, np.asarray(vector, float) / angle, angle)
    mujoco.mju_quat2Mat(matrix, quat)
    return matrix.reshape(3, 3)


def tool_down(yaw: float = 0.0) -> np.ndarray:
    """The tool pointing at the table, its fingers opening along the base's y axis turned by `yaw`."""
    return rotation_matrix(np.array([0.0, 0.0, yaw])) @ np.diag([1.0, -1.0, -1.0])

import mujoco
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robot_io.tabletop.kinematics import HOME, Kinematics, rotation_matrix, rotation_vector, tool_down
from robot_io.tabletop.scene import GRIPPER, build

KINEMATICS = Kinematics()


@given(arrays(float, 3, elements=st.floats(-1.7, 1.7)))
def test_rotation_vectors_survive_a_round_trip(vector):
    matrix = rotation_matrix(vector)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(rotation_vector(matrix), vector, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.30, 0.64), st.floats(-0.25, 0.25), st.floats(0.02, 0.35), st.floats(-0.3, 0.3))
def test_every_pose_of_the_workspace_can_be_reached(x, y, z, yaw):
    joints, error = KINEMATICS.inverse(HOME, np.array([x, y, z]), tool_down(yaw), iterations=60)
    position, rotation = KINEMATICS.forward(joints)
    assert error < 1e-3
    np.testing.assert_allclose(position, [x, y, z], atol=1e-3)
    np.testing.assert_allclose(rotation, tool_down(yaw), atol=2e-3)


def test_the_kinematic_model_is_the_simulated_robot():
    model = build(1, 0, 64)
    data = mujoco.MjData(model)
    for seed in range(3):
        joints = HOME + np.random.default_rng(seed).uniform(-0.5, 0.5, 6)
        data.qpos[:6] = joints
        mujoco.mj_kinematics(model, data)
        position, rotation = KINEMATICS.forward(joints)
        np.testing.assert_allclose(position, data.site(f"{GRIPPER}pinch").xpos, atol=1e-9)
        np.testing.assert_allclose(rotation.ravel(), data.site(f"{GRIPPER}pinch").xmat, atol=1e-9)

"""The safety layer: whatever a policy says, what is sent keeps the limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_io import ActionSpec, ObservationSpec, RobotSpec, UserError
from robot_io.execution import hold
from robot_io.safety import Limits, Safety

CARTESIAN = RobotSpec(
    "arm", ObservationSpec((), ("tool_x", "tool_y", "tool_z", "elbow"), ("m", "m", "m", "rad")),
    ActionSpec(("x", "y", "z", "gripper"), ("m",) * 3 + ("1",), (-0.05,) * 3 + (0.0,), (0.05,) * 3 + (1.0,), ("delta",) * 3 + ("absolute",),
               rate_hz=10.0, gripper=3),
)
JOINTS = RobotSpec(
    "arm", ObservationSpec((), ("elbow", "wrist"), ("rad", "rad")),
    ActionSpec(("elbow", "wrist"), ("rad",) * 2, (-3.0, -3.0), (3.0, 3.0), ("absolute",) * 2, rate_hz=20.0, frame="joint"),
)
LIMITS = Limits(velocity=(0.3, 0.3, 0.3, 9.0), jerk=(20.0, 20.0, 20.0, 9.0), workspace=((-0.1, -0.2, 0.02), (0.3, 0.2, 0.4)))
NUMBERS = st.floats(-10, 10, width=32)


def drive(safety: Safety, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Positions that a robot which does what it is told goes through, `[steps + 1, …]`, and none where it was forbidden to move."""
    path, last = [state.copy()], None
    for action in actions:
        sent = safety.check(action, state).action
        if sent is None:
            sent = hold(safety.spec, state, last)
        last, state = sent, state.copy()
        if safety.spec is CARTESIAN:
            state[:3] += sent[:3]
        else:
            state = sent.copy()
        safety.carried_out(sent, path[-1])
        path.append(state)
    return np.array(path)


@settings(max_examples=60)
@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=30))
def test_whatever_is_asked_range_workspace_and_speed_hold(actions: list[tuple[float, ...]]) -> None:
    safety = Safety(CARTESIAN, LIMITS)
    path = drive(safety, np.array(actions, np.float32) * 0.02, np.array([0.0, 0.0, 0.2, 0.5], np.float32))[:, :3]
    low, high = np.array(LIMITS.workspace)
    assert (path >= low - 1e-5).all() and (path <= high + 1e-5).all()
    assert np.abs(np.diff(path, axis=0)).max() <= 0.3 / 10 + 1e-5


def test_a_step_in_velocity_is_taken_gently_and_without_swinging() -> None:
    safety = Safety(CARTESIAN, replace(LIMITS, workspace=None))
    wanted = np.zeros((60, 4), np.float32)
    wanted[5:30, 0] = 0.03  # 0.3 m/s from one step to the next, and back
    moved = np.diff(drive(safety, wanted, np.array([0.0, 0.0, 0.2, 0.5], np.float32))[:, 0])
    velocity = moved * 10
    jerk = np.diff(np.diff(np.concatenate([[0, 0], velocity]))) * 100
    assert np.abs(jerk).max() <= 20.0 + 1e-3
    assert velocity.max() == pytest.approx(0.3, abs=1e-3), "it gets there"
    assert velocity.min() > -0.03 and np.abs(velocity[-10:]).max() < 1e-3, "and stands in the end"
    assert safety.counts["jerk"] > 0


def test_motions_within_the_limits_pass_untouched() -> None:
    safety = Safety(CARTESIAN, LIMITS)
    time = np.arange(40) / 10
    wanted = np.zeros((40, 4), np.float32)
    wanted[:, 1] = 0.01 * np.sin(2 * time) * np.minimum(time, 1)
    wanted[:, 3] = time > 2  # grippers snap
    state = np.array([0.0, 0.0, 0.2, 0.5], np.float32)
    for action in wanted:
        verdict = safety.check(action, state)
        np.testing.assert_allclose(verdict.action, action, atol=1e-7)
        assert not verdict.why
        safety.carried_out(verdict.action, state)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=20))
def test_absolute_targets_are_approached_at_the_allowed_speed_from_where_the_robot_is(targets: list[tuple[float, float]]) -> None:
    safety = Safety(JOINTS, Limits(velocity=(1.0, 2.0)))
    path = drive(safety, np.array(targets, np.float32), np.array([0.5, -0.5], np.float32))
    assert (np.abs(np.diff(path, axis=0)) <= np.array([1.0, 2.0]) / 20 + 1e-5).all()


@pytest.mark.parametrize("action, state, why", [
    ([np.nan, 0, 0, 1], [0, 0, 0.2, 0.5], "not a number"),
    ([np.inf, 0, 0, 1], [0, 0, 0.2, 0.5], "not a number"),
    ([0, 0, 0], [0, 0, 0.2, 0.5], "not a number"),
    ([0.16, 0, 0, 1], [0, 0, 0.2, 0.5], "far out of range"),
    ([0, 0, 0, 255], [0, 0, 0.2, 0.5], "far out of range"),
    ([0, 0, 0, 1], [0, np.nan, 0.2, 0.5], "state not a number"),
    ([0, 0, 0, 1], [0, 0, 0.2, 1.99], "joint elbow"),
])
def test_what_may_not_be_done_at_all(action: list[float], state: list[float], why: str) -> None:
    safety = Safety(CARTESIAN, Limits(joints={"elbow": (-2.0, 2.0)}))
    verdict = safety.check(np.array(action, np.float32), np.array(state, np.float32))
    assert verdict.action is None and verdict.why == (why,) and safety.counts[why] == 1


def test_a_tool_outside_the_workspace_may_come_back_but_not_go_further_out() -> None:
    safety = Safety(CARTESIAN, LIMITS)
    outside = np.array([0.5, 0.0, 0.2, 0.5], np.float32)
    assert safety.check(np.array([0.02, 0.01, 0, 1], np.float32), outside).action[:2] == pytest.approx([0.0, 0.01], abs=1e-6)
    assert safety.check(np.array([-0.02, 0.01, 0, 1], np.float32), outside).action[:2] == pytest.approx([-0.02, 0.01], abs=1e-6)


def test_joint_actions_are_kept_in_the_workspace_by_forward_kinematics() -> None:
    safety = Safety(JOINTS, Limits(workspace=((-1, -1, 0), (1, 1, 1))), tool_after=lambda state, action: np.array([0, 0, 0.5 + action[0]]))
    state = np.array([0.4, 0.0], np.float32)
    assert safety.check(np.array([0.45, 0.1], np.float32), state).action == pytest.approx([0.45, 0.1])
    verdict = safety.check(np.array([0.55, 0.1], np.float32), state)
    assert verdict.action == pytest.approx([0.4, 0.0]) and verdict.why == ("workspace",)


@pytest.mark.parametrize("limits, words", [
    (Limits(velocity=(1.0,)), "velocity"), (Limits(jerk=(1.0, 0.0, 1.0, 1.0)), "jerk"), (Limits(joints={"elbo": (0, 1)}), "did you mean 'elbow'"),
])
def test_limits_of_another_robot_are_refused(limits: Limits, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Safety(CARTESIAN, limits)
    with pytest.raises(UserError, match="forward kinematics"):
        Safety(JOINTS, Limits(workspace=((0, 0, 0), (1, 1, 1))))

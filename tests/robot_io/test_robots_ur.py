"""The UR driver against the simulated arm: what reaches the servo, how it stops, and a run through the `Runner` from end to end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_io import UserError
from robot_io.robots.robotiq import Robotiq
from robot_io.robots.streaming import Streaming
from robot_io.robots.ur import LEASH, UR, moved
from robot_io.rotations import matrix_of, vector_of
from robot_io.specs import differences
from robot_io.tabletop.robot import TabletopRobot

NUMBERS = st.floats(-4, 4)


@pytest.fixture
def arm() -> Iterator[UR]:
    robot = UR(host="simulated", seed=3, rate_hz=10.0)
    yield robot
    robot.close()


@given(st.tuples(NUMBERS, NUMBERS, NUMBERS))
def test_rotations_there_and_back(vector: tuple[float, float, float]) -> None:
    rotation = matrix_of(np.array(vector))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(matrix_of(vector_of(rotation)), rotation, atol=1e-6)
    assert np.linalg.norm(vector_of(rotation)) <= np.pi + 1e-9


def test_it_keeps_the_tabletops_contract(arm: UR) -> None:
    assert not differences(TabletopRobot().spec, arm.spec)
    seen = arm.observe()
    assert seen.state.shape == (16,) and seen.cameras["front"].rgb.shape == (128, 128, 3)
    np.testing.assert_allclose(seen.state, arm._drivers.control.table.state(), atol=1e-6)


def test_actions_move_the_tool_as_they_say_and_take_their_time(arm: UR) -> None:
    before = arm.observe().state
    arm.act(np.array([0, 0, 0, 0, 0, 0, 1], np.float32))
    began = time.monotonic()
    for _ in range(6):
        arm.act(np.array([0.004, -0.002, 0.004, 0, 0, 0.03, 0], np.float32))
    assert time.monotonic() - began > 0.55

    def moved() -> np.ndarray:
        return (arm.observe().state - before)[:3]

    until(lambda: np.abs(moved() - [0.024, -0.012, 0.024]).max() < 0.003, arm, np.zeros(7))
    after = arm.observe().state
    assert np.arctan2(after[4], after[3]) - np.arctan2(before[4], before[3]) == pytest.approx(0.18, abs=0.03)
    assert after[9] < 0.7
    assert arm._drivers.control.sent > 20, "set points at the servo's rate, not at the policy's"


def until(reached: Callable[[], bool], arm: UR, action: np.ndarray) -> None:
    """Go on with an action until something is so: the simulated arm is slower than time on a busy machine."""
    for _ in range(60):
        if reached():
            return
        arm.act(action)
    raise AssertionError("never reached")


def test_a_stop_is_a_stop_and_a_protective_stop_is_said(arm: UR) -> None:
    arm.act(np.array([0.02, 0, 0, 0, 0, 0, 1], np.float32))
    arm.stop()
    sent = arm._drivers.control.sent
    time.sleep(0.1)
    assert arm._drivers.control.sent == sent and arm._drivers.control.kicks > 0, "at rest, but alive"
    arm._drivers.control.protective_stop = True
    with pytest.raises(UserError, match="protectively stopped"):
        arm.act(np.zeros(7, np.float32))
    with pytest.raises(UserError, match="protectively stopped"):
        arm.observe()


def test_joint_targets_are_reached_evenly() -> None:
    robot = UR(host="simulated", seed=3, action_space="joint")
    start = np.array(robot._drivers.receive.getActualQ())
    target = start + np.array([0.05, -0.05, 0.05, 0, 0, 0.1])
    robot.act(np.append(start, 1.0))
    robot.act(np.append(start + 0.5 * (target - start), 1.0))
    until(lambda: np.abs(robot.observe().state[10:] - target).max() < 0.01, robot, np.append(target, 1.0))
    robot.close()


def test_a_blocked_arm_does_not_wind_up() -> None:
    measured = np.array([0.4, 0.0, 0.2, 0.0, np.pi, 0.0])
    target = measured
    for _ in range(50):
        target = moved(target, np.array([0.02, 0, 0, 0, 0, 0.2]), measured)
    assert np.linalg.norm(target[:3] - measured[:3]) == pytest.approx(LEASH)
    turned = vector_of(matrix_of(target[3:]) @ matrix_of(measured[3:]).T)
    assert np.linalg.norm(turned) == pytest.approx(0.3)


def test_the_streams_end_is_where_it_stays_and_its_failure_is_told() -> None:
    sent: list[float] = []

    def send(point: np.ndarray | None) -> None:
        time.sleep(0.002)
        if point is None:
            return
        sent.append(float(point[0]))
        if len(sent) > 60:
            raise OSError("cable")

    streaming = Streaming(send, period=0.05)
    streaming.go(lambda share: np.array([share]))
    while len(sent) <= 60:
        time.sleep(0.01)
    time.sleep(0.02)
    assert sent == sorted(sent) and sent[-10:] == [1.0] * 10
    with pytest.raises(OSError, match="cable"):
        streaming.go(lambda share: np.array([share]))


def test_the_gripper_speaks_the_urcaps_protocol() -> None:
    heard, position = [], 0
    listener = socket.create_server(("127.0.0.1", 0))

    def urcap() -> None:
        nonlocal position
        connection, _ = listener.accept()
        active = 0
        while line := connection.recv(1024).decode():
            heard.append(line)
            words = line.split()
            if words[:2] == ["SET", "POS"]:
                position = int(words[2])
            if words[:2] == ["SET", "ACT"]:
                active = 3
            values = {"STA": active, "POS": position}
            connection.sendall(b"ack" if words[0] == "SET" else f"{words[1]} {values[words[1]]}\n".encode())

    threading.Thread(target=urcap, daemon=True).start()
    gripper = Robotiq(*listener.getsockname())
    gripper.move(0.25)
    gripper.move(0.25)
    assert position == 191 and gripper.opening() == pytest.approx(0.25, abs=0.01)
    assert sum(line.startswith("SET POS") for line in heard) == 1, "what is going on already is not sent again"
    gripper.close()
    listener.close()


def test_what_is_missing_is_said() -> None:
    with pytest.raises(UserError, match="has no cameras"):
        UR(host="192.168.1.2")
    with pytest.raises(UserError, match=r"rtde_control.*swapvla\[ur\]"):
        UR(host="192.168.1.2", cameras={"front": {"kind": "opencv"}})
    with pytest.raises(UserError, match="URCap"):
        Robotiq("127.0.0.1", 9)

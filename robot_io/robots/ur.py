"""Universal Robots e-Series (UR3e … UR20) with a Robotiq gripper, through `ur-rtde` (https://sdurobotics.gitlab.io/ur_rtde).

Its contract is `robot_io.arm`'s, which the simulated tabletop keeps, too. Cartesian targets go to the controller's servoL, joint targets to
servoJ, `servo_hz` times a second (`robot_io.robots.streaming`). The controller's own watchdog stops the arm if this program dies; its own
safety configuration stays in force and should be set first: nothing here replaces it.

`host: simulated` puts a MuJoCo UR5e behind the same calls (`robot_io.robots.simulated_ur`), to rehearse without hardware. This driver
has been run against that; it has not touched a real arm.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from robot_io.arm import arm_spec, arm_state
from robot_io.errors import UserError
from robot_io.registry import ComponentConfig
from robot_io.robots.cameras import CameraConfig, open_camera
from robot_io.robots.packages import need
from robot_io.robots.robotiq import PORT, Robotiq
from robot_io.robots.streaming import Path, Streaming
from robot_io.rotations import matrix_of, vector_of
from robot_io.types import Observation

SIMULATED = "simulated"
RUNNING = 7  # getRobotMode
LEASH, TURN_LEASH = 0.045, 0.3  # how far the commanded pose may run ahead of the measured one, m and rad
STOPPING = 2.0  # deceleration of a stop, rad/s²


@dataclass
class Drivers:
    """The endpoints of one arm: ur-rtde's two interfaces, a gripper (or None) and cameras by name."""

    control: Any
    receive: Any
    gripper: Any
    cameras: dict[str, Any]
    judge: Any = None


class UR:
    """A UR e-Series arm. Build it from a `Config` or from its fields."""

    class Config(ComponentConfig):
        """How to reach and drive the arm.

        Attributes:
            host: its address, or `simulated`.
            instruction: what it is asked to do.
            action_space: `ee_delta` or `joint`; must be the policy's.
            rate_hz: control steps a second; must be the policy's.
            cameras: by the names that the policy knows; empty only for `simulated`, which brings its own.
            gripper: what sits at the flange.
            servo_hz: set points a second.
            lookahead, gain: of servoL and servoJ (0.03 to 0.2 s, 100 to 2000): smoothness against tightness.
            watchdog_hz: the controller stops the arm when it hears from this program less often; None for no watchdog.
            seed: the scene, of `simulated`.
        """

        kind: Literal["ur"] = "ur"
        host: str
        instruction: str = ""
        action_space: Literal["ee_delta", "joint"] = "ee_delta"
        rate_hz: float = Field(10.0, gt=0, le=125)
        cameras: dict[str, CameraConfig] = {}  # noqa: RUF012
        gripper: Literal["robotiq", "none"] = "robotiq"
        gripper_port: int = PORT
        servo_hz: float = Field(125.0, ge=50, le=500)
        lookahead: float = Field(0.1, ge=0.03, le=0.2)
        gain: float = Field(300.0, ge=100, le=2000)
        watchdog_hz: float | None = Field(10.0, gt=0)
        seed: int = 0

    def __init__(self, config: Config | None = None, **options: object) -> None:
        self.config = config or self.Config(**options)
        self._drivers = connect(self.config)
        cameras = tuple(camera.spec for camera in self._drivers.cameras.values())
        self.spec = arm_spec("ur", cameras, self.config.action_space, self.config.rate_hz)
        self.instruction = self.config.instruction or getattr(self._drivers.receive, "instruction", "")
        self._period = 1 / self.config.rate_hz
        self._streaming = Streaming(self._servo, self._period)
        self._target: np.ndarray | None = None
        self._due = 0.0

    @property
    def judge(self) -> Any:
        """Says whether the simulated arm has carried out its instruction; None for a real one."""
        return self._drivers.judge

    def observe(self) -> Observation:
        """The newest pictures and the arm's state."""
        self._require_healthy()
        frames = {name: camera.read() for name, camera in self._drivers.cameras.items()}
        receive = self._drivers.receive
        pose = np.array(receive.getActualTCPPose())
        opening = 1.0 if self._drivers.gripper is None else self._drivers.gripper.opening()
        state = arm_state(pose[:3], matrix_of(pose[3:]), opening, np.array(receive.getActualQ()))
        return Observation(frames, state, self.instruction, float(receive.getTimestamp()))

    def act(self, action: np.ndarray) -> None:
        """Go on to the target that `action` means, and return when the next one is due."""
        begun = time.monotonic()
        action = np.asarray(action, float)
        if action.shape != (self.spec.action.dim,) or not np.isfinite(action).all():
            raise UserError("action", f"{action}", f"{self.spec.action.dim} finite numbers", "check what drives the robot")
        self._require_healthy()
        self._streaming.go(self._joint_path(action) if self.config.action_space == "joint" else self._tool_path(action))
        if self._drivers.gripper is not None:
            self._drivers.gripper.move(float(action[6]))
        self._due = self._due + self._period if begun < self._due + self._period else begun + self._period
        time.sleep(max(0.0, self._due - time.monotonic()))

    def stop(self) -> None:
        """Bring the arm to rest. It may be driven again afterwards."""
        self._target = None
        with self._streaming.stopped():
            self._drivers.control.servoStop(STOPPING)

    def close(self) -> None:
        self.stop()
        self._streaming.close()
        self._drivers.control.stopScript()
        for part in (self._drivers.control, self._drivers.receive):
            part.disconnect()
        for part in (self._drivers.gripper, *self._drivers.cameras.values()):
            if part is not None:
                part.close()

    def _tool_path(self, action: np.ndarray) -> Path:
        """From the present set point to the commanded pose moved by `action`; poses are `x y z` and a rotation vector."""
        measured = np.array(self._drivers.receive.getActualTCPPose())
        start = self._streaming.point()
        start = measured if start is None else start
        target = moved(start if self._target is None else self._target, action, measured)
        self._target = target
        first = matrix_of(start[3:])
        turn = vector_of(matrix_of(target[3:]) @ first.T)
        return lambda share: np.concatenate([
            start[:3] + share * (target[:3] - start[:3]), vector_of(matrix_of(share * turn) @ first)])

    def _joint_path(self, action: np.ndarray) -> Path:
        start = self._streaming.point()
        start = np.array(self._drivers.receive.getActualQ()) if start is None else start
        return lambda share: start + share * (action[:6] - start)

    def _servo(self, point: np.ndarray | None) -> None:
        """Send one set point, or only a sign of life, and wait out the servo's period."""
        control, config = self._drivers.control, self.config
        begun = control.initPeriod()
        if point is not None:
            command = control.servoJ if config.action_space == "joint" else control.servoL
            # Speed and acceleration are not used by the controller in servo mode; the interface wants them.
            if not command(point.tolist(), 0.5, 0.5, 1 / config.servo_hz, config.lookahead, config.gain):
                raise UserError(f"UR at {config.host}", "did not take a set point", "a running program on the controller",
                                "look at the pendant: protective stop, remote control, emergency stop?")
        if config.watchdog_hz is not None:
            control.kickWatchdog()
        control.waitPeriod(begun)

    def _require_healthy(self) -> None:
        receive = self._drivers.receive
        for bad, found in ((receive.isEmergencyStopped(), "it is emergency stopped"), (receive.isProtectiveStopped(), "it is protectively stopped"),
                           (not receive.isConnected(), "the connection was lost")):
            if bad:
                raise UserError(f"UR at {self.config.host}", found, "a running arm", "look at the arm and its pendant, then start again")


def moved(target: np.ndarray, action: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """The commanded pose after an `ee_delta` action, on a leash to the measured one: a blocked arm does not wind up."""
    ahead = target[:3] + action[:3] - measured[:3]
    turn = vector_of(matrix_of(action[3:6]) @ matrix_of(target[3:]) @ matrix_of(measured[3:]).T)
    ahead = ahead * min(1.0, LEASH / max(float(np.linalg.norm(ahead)), 1e-9))
    turn = turn * min(1.0, TURN_LEASH / max(float(np.linalg.norm(turn)), 1e-9))
    return np.concatenate([measured[:3] + ahead, vector_of(matrix_of(turn) @ matrix_of(measured[3:]))])


def connect(config: UR.Config) -> Drivers:
    """Reach the arm, its gripper and its cameras.

    Raises:
        UserError: ur-rtde is not installed, the arm does not answer or is not switched on, there is no camera.
    """
    if config.host == SIMULATED:
        from robot_io.robots.simulated_ur import simulate

        return simulate(config)
    if not config.cameras:
        raise UserError("robot 'ur'", "has no cameras", "those that the policy was trained with",
                        "name them: robot.cameras='{front: {kind: realsense}, wrist: {kind: opencv, device: 2}}'")
    control = need("rtde_control", "robot 'ur'", "run: pip install 'swapvla[ur]'")
    receive = need("rtde_receive", "robot 'ur'", "run: pip install 'swapvla[ur]'")
    try:
        reading = receive.RTDEReceiveInterface(config.host, config.servo_hz)
        if reading.getRobotMode() != RUNNING:
            raise UserError(f"UR at {config.host}", f"robot mode {reading.getRobotMode()}", f"{RUNNING}, running",
                            "power the arm on and release its brakes on the pendant")
        driving = control.RTDEControlInterface(config.host, config.servo_hz)
    except RuntimeError as error:
        raise UserError(f"UR at {config.host}", f"cannot be reached ({error})", "an arm that is switched on and in remote control",
                        "check the address, the network, and 'Remote Control' on the pendant") from None
    if config.watchdog_hz is not None:
        driving.setWatchdog(config.watchdog_hz)
    gripper = Robotiq(config.host, config.gripper_port) if config.gripper == "robotiq" else None
    return Drivers(driving, reading, gripper, {name: open_camera(name, camera) for name, camera in config.cameras.items()})

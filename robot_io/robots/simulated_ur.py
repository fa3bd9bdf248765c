"""A UR5e, its gripper and two cameras in MuJoCo behind the calls that `robot_io.robots.ur` makes, to rehearse a run without an arm.

It stands in for `rtde_control.RTDEControlInterface`, `rtde_receive.RTDEReceiveInterface`, the gripper and the cameras: only the calls
that the driver uses, with the signatures of ur-rtde 1.6. Its physics and its scene are the tabletop's. It is not a controller: no RTDE
packets, no URScript, no safety functions, no servo delay; what passes here has passed the driver's own code and nothing more.
"""

from __future__ import annotations

import datetime
import threading
import time
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from robot_io.robots.ur import RUNNING, Drivers
from robot_io.rotations import matrix_of, vector_of
from robot_io.specs import CameraSpec
from robot_io.tabletop.judge import judge
from robot_io.tabletop.robot import TabletopRobot
from robot_io.types import CameraFrame

if TYPE_CHECKING:
    from robot_io.robots.ur import UR


def simulate(config: UR.Config) -> Drivers:
    """The endpoints of a simulated arm in the scene of `config.seed`."""
    arm = SimulatedArm(config.seed, config.servo_hz)
    cameras = {camera.name: SimulatedCamera(arm, camera) for camera in arm.table.spec.observation.cameras}
    return Drivers(arm, arm, SimulatedGripper(arm), cameras, judge=lambda: arm.outcome.success)


class SimulatedArm:
    """Both of ur-rtde's interfaces. Time goes by in `waitPeriod`.

    Attributes:
        sent, kicks: set points and signs of life received.
        protective_stop: set it to see what the driver does.
    """

    def __init__(self, seed: int, servo_hz: float) -> None:
        self.table = TabletopRobot(image_size=128)
        self.table.reset(seed)
        self.instruction = self.table.layout.instruction
        self.lock = threading.Lock()
        self.sent, self.kicks, self.protective_stop, self.connected = 0, 0, False, True
        self.outcome = self.table.outcome()
        self._period = 1 / servo_hz
        self._command = self.table.joints()
        self._judged = 0.0
        self._drawn: tuple[float, dict[str, CameraFrame]] | None = None

    def pictures(self) -> dict[str, CameraFrame]:
        """Of both cameras, drawn once for each instant."""
        with self.lock:
            if self._drawn is None or self._drawn[0] != self.table.data.time:
                self._drawn = self.table.data.time, self.table.observe().cameras
            return self._drawn[1]

    # rtde_control -----------------------------------------------------------------------------------------------

    def servoL(self, pose: list[float], speed: float, acceleration: float, time: float, lookahead: float, gain: float) -> bool:
        pose = np.array(pose)
        with self.lock:
            joints, _ = self.table.kinematics.inverse(self._command, pose[:3], matrix_of(pose[3:]), iterations=8)
        return self.servoJ(joints.tolist(), speed, acceleration, time, lookahead, gain)

    def servoJ(self, joints: list[float], speed: float, acceleration: float, time: float, lookahead: float, gain: float) -> bool:
        if self.protective_stop:
            return False
        self.sent += 1
        self._command = np.array(joints)
        with self.lock:
            self.table.data.ctrl[:6] = self._command
        return True

    def servoStop(self, deceleration: float = 10.0) -> bool:
        with self.lock:
            self.table.data.ctrl[:6] = self._command = self.table.joints()
        return True

    def initPeriod(self) -> datetime.timedelta:
        return datetime.timedelta(seconds=time.monotonic())

    def waitPeriod(self, begun: datetime.timedelta) -> None:
        """Let one servo period go by, in the simulation and here."""
        table = self.table
        with self.lock:
            mujoco.mj_step(table.model, table.data, max(1, round(self._period / table.model.opt.timestep)))
            mujoco.mj_kinematics(table.model, table.data)
            mujoco.mj_camlight(table.model, table.data)
            if table.data.time - self._judged >= 0.1:
                self._judged = table.data.time
                self.outcome = judge(table, self.outcome, max_steps=2**31)
        time.sleep(max(0.0, begun.total_seconds() + self._period - time.monotonic()))

    def setWatchdog(self, min_frequency: float = 10.0) -> bool:
        return True

    def kickWatchdog(self) -> bool:
        self.kicks += 1
        return True

    def stopScript(self) -> None:
        self.servoStop()

    # rtde_receive -----------------------------------------------------------------------------------------------

    def getActualTCPPose(self) -> list[float]:
        with self.lock:
            position, rotation = self.table.tool()
        return [*position, *vector_of(rotation)]

    def getActualQ(self) -> list[float]:
        with self.lock:
            return self.table.joints().tolist()

    def getTimestamp(self) -> float:
        return float(self.table.data.time)

    def getRobotMode(self) -> int:
        return RUNNING

    def isProtectiveStopped(self) -> bool:
        return self.protective_stop

    def isEmergencyStopped(self) -> bool:
        return False

    def isConnected(self) -> bool:
        return self.connected

    def disconnect(self) -> None:
        self.connected = False


class SimulatedGripper:
    """`robot_io.robots.robotiq.Robotiq`'s calls."""

    def __init__(self, arm: SimulatedArm) -> None:
        self._arm = arm

    def move(self, opening: float) -> None:
        with self._arm.lock:
            self._arm.table.data.ctrl[6] = 255 * (1 - opening)

    def opening(self) -> float:
        with self._arm.lock:
            return self._arm.table.opening()

    def close(self) -> None:
        pass


class SimulatedCamera:
    """`robot_io.robots.cameras.Camera`'s calls: a drawing of the scene. To be read from one thread, which owns the GL context."""

    def __init__(self, arm: SimulatedArm, spec: CameraSpec) -> None:
        self._arm, self.spec = arm, spec

    def read(self) -> CameraFrame:
        return self._arm.pictures()[self.spec.name]

    def close(self) -> None:
        self._arm.table.close()

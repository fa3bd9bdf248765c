"""What a robot sees and does: observations, specifications, data sets, simulators, robots and the policy client.

No torch in here: this package is also what a robot PC installs.
"""

from robot_io.errors import SpecMismatch, UserError
from robot_io.registry import Registry
from robot_io.specs import ActionSpec, CameraSpec, ObservationSpec, RobotSpec
from robot_io.types import ActionChunk, CameraFrame, Observation, Underway

ROBOTS = Registry("robots", "vla.robots")
ROBOTS.add(
    "tabletop",
    "robot_io.tabletop.env:TabletopRobot",
    "UR5e with a Robotiq 2F-85 over a table of objects, in MuJoCo",
    needs=("swapvla[sim]",),
    provides=("rgb", "depth", "intrinsics", "extrinsics", "scripted expert"),
)

__all__ = [
    "ROBOTS",
    "ActionChunk",
    "ActionSpec",
    "CameraFrame",
    "CameraSpec",
    "Observation",
    "ObservationSpec",
    "RobotSpec",
    "SpecMismatch",
    "Underway",
    "UserError",
]

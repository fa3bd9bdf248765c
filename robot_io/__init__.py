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
ROBOTS.add(
    "ur",
    "robot_io.robots.ur:UR",
    "Universal Robots e-Series with a Robotiq gripper, the tabletop's contract; host `simulated` rehearses it in MuJoCo",
    needs=("swapvla[ur]",),
    provides=("rgb", "depth with a RealSense", "intrinsics", "extrinsics if calibrated"),
)
ROBOTS.add(
    "lerobot",
    "robot_io.robots.lerobot:LeRobotRobot",
    "any robot of LeRobot's, built in or from a plugin package",
    needs=("lerobot",),
    provides=("rgb",),
)
ROBOTS.add(
    "ros2",
    "robot_io.robots.ros2:Ros2",
    "whatever a ROS 2 joint trajectory controller drives, with its image topics",
    needs=("a sourced ROS 2",),
    provides=("rgb", "intrinsics"),
)
ROBOTS.add(
    "replay",
    "robot_io.robots.replay:Replay",
    "a data set played back, which compares what it is sent with what was recorded",
    provides=("rgb", "whatever was recorded"),
)
ROBOTS.add(
    "metaworld",
    "robot_io.simulators.metaworld:MetaWorld",
    "Meta-World's fifty Sawyer tasks, with words for each and their scripted experts",
    paper="Yu et al., Meta-World (arXiv 1910.10897)",
    needs=("swapvla[metaworld]",),
    provides=("rgb", "depth", "intrinsics", "extrinsics", "scripted expert"),
)
ROBOTS.add(
    "pusht",
    "robot_io.simulators.pusht:PushT",
    "Diffusion Policy's board: push a T onto its place; with an expert that plans strokes",
    paper="Chi et al., Diffusion Policy (arXiv 2303.04137)",
    needs=("swapvla[pusht]",),
    provides=("rgb", "scripted expert"),
)
ROBOTS.add(
    "libero",
    "robot_io.simulators.libero:Libero",
    "LIBERO's and LIBERO-PRO's suites of Panda tasks, with their initial states and an expert that puts things in and on others",
    paper="Liu et al., LIBERO (arXiv 2306.03310); LIBERO-PRO (arXiv 2510.03827)",
    needs=("an environment of its own: make libero",),
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

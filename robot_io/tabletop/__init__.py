"""A UR5e with a Robotiq 2F-85 over a table of objects, simulated in MuJoCo.

`TabletopRobot` (robot.py) is the simulator, `Expert` (expert.py) its demonstrator; `gymnasium.make("swapvla/Tabletop-v0")` works
once this package is imported, or as `gymnasium.make("robot_io.tabletop:swapvla/Tabletop-v0")`.
"""

import contextlib
import os
from ctypes.util import find_library

from robot_io.errors import UserError

# MuJoCo reads this when it is imported, and its own default needs a display.
if "MUJOCO_GL" not in os.environ:
    os.environ["MUJOCO_GL"] = next((gl for gl, library in (("egl", "EGL"), ("osmesa", "OSMesa")) if find_library(library)), "off")

# Triton and Mesa's software renderer bring an LLVM each; loaded in the other order the process dies.
with contextlib.suppress(ImportError):
    import triton  # noqa: F401

import gymnasium

try:
    import mujoco  # noqa: F401
except (AttributeError, RuntimeError) as error:  # a library that PyOpenGL does not find; a name that MuJoCo does not know
    raise UserError("MUJOCO_GL", f"'{os.environ['MUJOCO_GL']}' cannot be used", "egl or osmesa, and its library",
                    "run: apt-get install libegl1 libgl1-mesa-dri libosmesa6, or unset MUJOCO_GL") from error

gymnasium.register("swapvla/Tabletop-v0", entry_point="robot_io.tabletop.env:TabletopEnv")

"""Pictures of the tabletop: RGB and metric depth from one render pass, and instance masks on request.

Reversed depth d in [0, 1] becomes metres by z = near / (1 - (1 - d)(1 - near / far)). Camera poses are given in the OpenCV
convention (z forward, x right, y down); MuJoCo's look along -z with y up. Only this file touches OpenGL.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import os
import weakref
from typing import Any

import mujoco
import numpy as np

from robot_io.errors import UserError
from robot_io.types import CameraFrame

BACKENDS = ("egl", "osmesa", "glfw")
OPENCV_FROM_MUJOCO = np.diag([1.0, -1.0, -1.0])
PACKAGES = "run: apt-get install libegl1 libgl1-mesa-dri libosmesa6, and set MUJOCO_GL=egl or MUJOCO_GL=osmesa"


def _make_context(size: int) -> Any:
    """An off-screen OpenGL context of the back-end in `MUJOCO_GL`, which this package sets if the user did not."""
    backend = os.environ.get("MUJOCO_GL", "").lower()
    if backend not in BACKENDS:
        raise UserError("tabletop cameras", "no off-screen OpenGL library found", "EGL or OSMesa", PACKAGES)
    try:
        context = importlib.import_module(f"mujoco.{backend}").GLContext(size, size)
        context.make_current()
    except Exception as error:  # each back-end raises its own kinds
        raise UserError("tabletop cameras", f"OpenGL through {backend} fails: {error or type(error).__name__}",
                        "an off-screen context", PACKAGES) from error
    _close_all_at_exit()
    return context


_open: weakref.WeakSet[Cameras] = weakref.WeakSet()


@functools.cache
def _close_all_at_exit() -> None:
    """Registered after EGL's own farewell, so it runs before it; contexts freed any later make EGL complain."""
    atexit.register(lambda: [cameras.close() for cameras in list(_open)])


class Cameras:
    """Draws the named cameras of a model, all of one size.

    Args:
        model: compiled with an off-screen buffer of at least `size` pixels.
        size: height and width of every picture.
        hidden: groups of geoms that are not drawn (robosuite keeps collision shapes in one).
    """

    def __init__(self, model: mujoco.MjModel, size: int, hidden: tuple[int, ...] = ()) -> None:
        self.model, self.size = model, size
        self._gl = _make_context(size)
        _open.add(self)
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + 20)
        self._options = mujoco.MjvOption()
        self._options.geomgroup[list(hidden)] = 0
        self._view = mujoco.MjvCamera()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._rectangle = mujoco.MjrRect(0, 0, size, size)
        self._near, self._far = (value * model.stat.extent for value in (model.vis.map.znear, model.vis.map.zfar))

    def frame(self, data: mujoco.MjData, camera: str) -> CameraFrame:
        """What `camera` sees."""
        self._draw(data, camera)
        rgb = np.empty((self.size, self.size, 3), np.uint8)
        depth = np.empty((self.size, self.size), np.float32)
        mujoco.mjr_readPixels(rgb, depth, self._rectangle, self._context)
        metres = self._near / (1 - (1 - depth.astype(np.float64)) * (1 - self._near / self._far))
        return CameraFrame(rgb=np.ascontiguousarray(rgb[::-1]), depth=np.ascontiguousarray(metres[::-1], np.float32),
                           intrinsics=self.intrinsics(camera), world_from_camera=self.pose(data, camera))

    def geom_ids(self, data: mujoco.MjData, camera: str) -> np.ndarray:
        """The id of the geom at each pixel, `int32 [H, W]`, -1 where there is none."""
        self._draw(data, camera, segment=True)
        code = np.empty((self.size, self.size, 3), np.uint8)
        mujoco.mjr_readPixels(code, None, self._rectangle, self._context)
        index = code[::-1].astype(np.int32) @ np.array([1, 2**8, 2**16], np.int32)
        table = np.full(self._scene.ngeom + 1, -1, np.int32)
        for geom in self._scene.geoms[:self._scene.ngeom]:
            if geom.segid >= 0 and geom.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                table[geom.segid + 1] = geom.objid
        return table[index]

    def intrinsics(self, camera: str) -> np.ndarray:
        """`float32 [3, 3]`: square pixels, the principal point in the middle (pixel centres at whole numbers)."""
        focal = self.size / 2 / np.tan(np.deg2rad(self.model.camera(camera).fovy[0]) / 2)
        centre = (self.size - 1) / 2
        return np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1]], np.float32)

    def pose(self, data: mujoco.MjData, camera: str) -> np.ndarray:
        """`float32 [4, 4]`, world from camera (OpenCV)."""
        view = data.camera(camera)
        pose = np.eye(4, dtype=np.float32)
        pose[:3, :3] = view.xmat.reshape(3, 3) @ OPENCV_FROM_MUJOCO
        pose[:3, 3] = view.xpos
        return pose

    def check(self, data: mujoco.MjData, camera: str) -> None:
        """Refuse to start on a driver that draws nothing."""
        frame = self.frame(data, camera)
        bounded = 0.99 * self._near <= frame.depth.min() and frame.depth.max() <= 1.01 * self._far  # NaN is not
        if frame.rgb.std() == 0 or frame.depth.std() == 0 or not bounded:
            raise UserError("tabletop cameras", "the OpenGL driver returns an empty picture", "a picture of the scene",
                            PACKAGES)

    def close(self) -> None:
        """Free OpenGL's memory."""
        if self._gl is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = None

    def _draw(self, data: mujoco.MjData, camera: str, segment: bool = False) -> None:
        self._gl.make_current()
        self._view.fixedcamid = self.model.camera(camera).id
        mujoco.mjv_updateScene(self.model, data, self._options, None, self._view, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene)
        for flag in (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR):
            self._scene.flags[flag] = segment
        mujoco.mjr_render(self._rectangle, self._scene, self._context)

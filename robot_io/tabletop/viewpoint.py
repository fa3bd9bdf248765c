"""The front camera a little elsewhere than where it was calibrated: what moves when somebody bumps into its stand."""

from __future__ import annotations

import mujoco
import numpy as np

CAMERA = "front"
TURN = 1.5
"""Radians about each axis per metre: 5 cm away, it is turned by up to 4.3° as well."""


class Viewpoint:
    """Remembers where the camera of a model stands, and moves it."""

    def __init__(self, model: mujoco.MjModel) -> None:
        camera = model.camera(CAMERA)
        self._position, self._rotation = camera.pos.copy(), camera.quat.copy()

    def draw(self, model: mujoco.MjModel, metres: float, rng: np.random.Generator) -> None:
        """Move the camera by up to `metres` along each axis of the world, and turn it in proportion."""
        camera, turn = model.camera(CAMERA), np.empty(4)
        camera.pos = self._position + rng.uniform(-metres, metres, 3)
        vector = TURN * rng.uniform(-metres, metres, 3)
        mujoco.mju_axisAngle2Quat(turn, vector / max(np.linalg.norm(vector), 1e-12), np.linalg.norm(vector))
        moved = np.empty(4)
        mujoco.mju_mulQuat(moved, self._rotation, turn)
        camera.quat = moved

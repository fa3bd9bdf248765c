"""Where candidates are in space, to find the same thing again in another view and to tell near from far.

Shapes: N candidates, H×W pixels; frames as in `robot_io.types` (the world is the robot's base frame).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from perception.percept import Batch, Percept

ENOUGH = 2000
"""Pixels of a mask that are looked at; more say the same."""


class Geometry:
    """Depth, intrinsics and poses of a batch's views, as far as they are known."""

    def __init__(self, batch: Batch, percept: Percept) -> None:
        self._views: list[tuple[np.ndarray, np.ndarray, np.ndarray] | None] = []
        for view, name in enumerate(batch.cameras):
            depth = percept.depth[:, view] if percept.depth is not None else batch.depth.get(name)
            known = (depth, batch.intrinsics.get(name), batch.world_from_camera.get(name))
            self._views.append(None if any(part is None for part in known) else tuple(part.cpu().numpy() for part in known))

    def positions(self, index: int, view: int, masks: Bool[np.ndarray, "n h w"] | None) -> Float[np.ndarray, "n 3"] | None:
        """The middle of each mask's visible surface, NaN where it has no depth; None for a view of unknown geometry."""
        if masks is None or (known := self._views[view]) is None:
            return None
        depth, intrinsics, pose = (part[index] for part in known)
        return np.array([_middle(mask, depth, intrinsics, pose) for mask in masks], np.float32).reshape(-1, 3)


def _middle(mask: np.ndarray, depth: np.ndarray, intrinsics: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """The median point of a mask in the world."""
    rows, columns = np.nonzero(mask)
    step = 1 + len(rows) // ENOUGH
    rows, columns = rows[::step], columns[::step]
    z = depth[rows, columns]
    measured = np.isfinite(z) & (z > 0)
    if not measured.any():
        return np.full(3, np.nan)
    pixels = np.stack([columns, rows, np.ones_like(rows)], 1)[measured]
    points = (pixels @ np.linalg.inv(intrinsics).T) * z[measured, None]
    return np.median(points @ pose[:3, :3].T + pose[:3, 3], axis=0)

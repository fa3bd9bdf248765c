"""Which geom belongs to what: the ids in `TabletopRobot.masks`, and the slot of an object's geom."""

from __future__ import annotations

import mujoco
import numpy as np

ROBOT_MASK = 100


def slots_by_geom(model: mujoco.MjModel) -> dict[int, int]:
    """The index of the object that a geom is part of, for those that are."""
    return {geom: int(name[6:]) for geom, name in enumerate(_owners(model)) if name.startswith("object")}


def instances_by_geom(model: mujoco.MjModel, n_objects: int) -> np.ndarray:
    """`int32 [n_geoms + 1]`: 0 surroundings, objects from 1, then bowls, the robot `ROBOT_MASK`. The last entry answers to -1."""
    table = np.full(model.ngeom + 1, ROBOT_MASK, np.int32)
    table[-1] = 0
    for geom, name in enumerate(_owners(model)):
        if name == "world":
            table[geom] = 0
        elif name.startswith("object"):
            table[geom] = 1 + int(name[6:])
        elif name.startswith("bowl"):
            table[geom] = 1 + n_objects + int(name[4:])
    return table


def _owners(model: mujoco.MjModel) -> list[str]:
    """The name of each geom's body."""
    return [model.body(int(body)).name for body in model.geom_bodyid]

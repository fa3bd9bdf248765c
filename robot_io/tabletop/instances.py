"""The truth about the objects on the table: where each one is, and which geom belongs to which."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

ROBOT_MASK = 100


@dataclass(frozen=True)
class ObjectState:
    """Where an object really is; for experts, labels and evaluation, never for a policy.

    Attributes:
        id: the object's value in `TabletopRobot.masks`.
        position: of its centre, `float64 [3]`, m, base frame.
        half_width: half of the size of its footprint, m.
        height: of its centre above where it would stand on the table, m.
        target: the instruction is about it; of no object, if what it names is absent.
    """

    id: int
    name: str
    color: str
    shape: str
    position: np.ndarray
    half_width: float
    height: float
    target: bool


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

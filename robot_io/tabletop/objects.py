"""What can stand on the table: named shapes, colours, and a catalogue of objects that are never trained on.

A shape is a few geoms in units of the object's half width, so that one description serves every size. `SHAPES` are the six that
`tiny` was pretrained on, `MORE_SHAPES` compositions beyond them; `NAMED` is both. `UNSEEN` shares no shape, no colour and no
texture with them: it is the clutter that a policy and a grounder meet for the first time in a test. All fit between the fingers of
an 85 mm gripper from any side.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from robot_io.tabletop import meshes

COLORS = {
    "red": (0.80, 0.08, 0.07), "green": (0.10, 0.55, 0.14), "blue": (0.08, 0.20, 0.75), "yellow": (0.93, 0.80, 0.08),
    "purple": (0.45, 0.12, 0.60), "orange": (0.95, 0.42, 0.04), "cyan": (0.10, 0.72, 0.78), "pink": (0.95, 0.48, 0.65),
    "white": (0.93, 0.93, 0.92), "black": (0.07, 0.07, 0.08),
}
UNSEEN_COLORS = {
    "teal": (0.00, 0.36, 0.38), "maroon": (0.42, 0.04, 0.13), "olive": (0.42, 0.41, 0.10), "brown": (0.38, 0.21, 0.10),
    "navy": (0.06, 0.08, 0.32), "silver": (0.66, 0.68, 0.70), "magenta": (0.78, 0.06, 0.48), "mint": (0.62, 0.90, 0.74),
    "lavender": (0.66, 0.60, 0.90), "khaki": (0.80, 0.74, 0.48),
}
HELD_OUT = (("green", "ball"), ("purple", "cube"), ("orange", "cylinder"), ("red", "cross"))
"""Pairs of a colour and a shape that no training scene shows; every other pair of the two does occur."""
SIZE = 0.0205
"""Half width, m, of objects with a mesh: meshes come in one size."""

_Geom = mujoco.mjtGeom
BOX, CYLINDER, SPHERE, CAPSULE, ELLIPSOID, MESH = (
    _Geom.mjGEOM_BOX, _Geom.mjGEOM_CYLINDER, _Geom.mjGEOM_SPHERE, _Geom.mjGEOM_CAPSULE, _Geom.mjGEOM_ELLIPSOID, _Geom.mjGEOM_MESH,
)


@dataclass(frozen=True)
class Part:
    """One geom of a shape.

    Attributes:
        geom, size: MuJoCo's kind and half sizes, in half widths.
        z, x, y: of its centre, in half widths.
        turn: rotation vector, rad.
        shade: brightness beside the object's colour (a bottle's cap is darker).
        mesh: name in `MESHES`, if `geom` is MESH.
    """

    geom: mujoco.mjtGeom
    size: tuple[float, float, float]
    z: float = 0.0
    x: float = 0.0
    y: float = 0.0
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shade: float = 1.0
    mesh: str = ""

    @property
    def quat(self) -> np.ndarray:
        quat, angle = np.array([1.0, 0, 0, 0]), float(np.linalg.norm(self.turn))
        if angle:
            mujoco.mju_axisAngle2Quat(quat, np.array(self.turn) / angle, angle)
        return quat

    def reach(self, direction: tuple[float, float, float]) -> float:
        """How far the part extends along a unit vector, from the object's centre, in half widths."""
        rotation = np.empty(9)
        mujoco.mju_quat2Mat(rotation, self.quat)
        along = np.array(direction) @ rotation.reshape(3, 3)
        size, flat = np.array(self.size), float(np.hypot(along[0], along[1]))
        own = {
            BOX: lambda: np.abs(along) @ size,
            SPHERE: lambda: size[0],
            CYLINDER: lambda: size[0] * flat + size[1] * abs(along[2]),
            CAPSULE: lambda: size[0] + size[1] * abs(along[2]),
            ELLIPSOID: lambda: np.linalg.norm(along * size),
            MESH: lambda: (MESHES[self.mesh][0] @ along).max(),
        }[self.geom]()
        return float(own + np.dot(direction, (self.x, self.y, self.z)))


Shape = tuple[Part, ...]
LYING = (0.0, np.pi / 2, 0.0)
THIRDS = (np.pi / 6, np.pi * 5 / 6, np.pi * 3 / 2)


SHAPES: dict[str, Shape] = {
    "cube": (Part(BOX, (1, 1, 1)),),
    "cylinder": (Part(CYLINDER, (1, 1.15, 0)),),
    "ball": (Part(SPHERE, (1.08, 0, 0)),),
    "block": (Part(BOX, (0.75, 1.5, 0.85)),),
    "cross": (Part(BOX, (1.45, 0.5, 0.8)), Part(BOX, (0.5, 1.45, 0.8))),
    "pyramid": (Part(BOX, (1.1, 1.1, 0.5), -0.5), Part(BOX, (0.7, 0.7, 0.3), 0.3), Part(BOX, (0.35, 0.35, 0.25), 0.85)),
}
MORE_SHAPES: dict[str, Shape] = {
    "cone": (Part(MESH, (1, 1, 1), mesh="cone"),),
    "ring": (Part(MESH, (1, 1, 1), mesh="ring"),),
    "mug": (Part(CYLINDER, (0.95, 1.1, 0)), Part(CYLINDER, (0.78, 0.02, 0), 1.1, shade=0.3), Part(BOX, (0.3, 0.17, 0.13), 0.6, 1.15),
            Part(BOX, (0.3, 0.17, 0.13), -0.4, 1.15), Part(BOX, (0.13, 0.17, 0.63), 0.1, 1.4)),
    "bottle": (Part(CYLINDER, (0.85, 1.0, 0), -0.2), Part(ELLIPSOID, (0.85, 0.85, 0.6), 0.8), Part(CYLINDER, (0.34, 0.45, 0), 1.5),
               Part(CYLINDER, (0.42, 0.2, 0), 1.95, shade=0.45)),
    "dumbbell": (Part(CYLINDER, (0.34, 1.0, 0), turn=LYING), Part(BOX, (0.3, 0.7, 0.7), x=1.15), Part(BOX, (0.3, 0.7, 0.7), x=-1.15)),
    "arch": (Part(BOX, (0.36, 0.6, 0.65), -0.45, 0.84), Part(BOX, (0.36, 0.6, 0.65), -0.45, -0.84), Part(BOX, (1.2, 0.6, 0.4), 0.6)),
    "elbow": (Part(BOX, (1.15, 0.45, 0.8), y=-0.35), Part(BOX, (0.45, 0.65, 0.8), x=-0.7, y=0.6)),
    "tee": (Part(BOX, (1.35, 0.45, 0.8), y=0.5), Part(BOX, (0.45, 0.7, 0.8), y=-0.6)),
    "star": (Part(MESH, (1, 1, 1), mesh="star"),),
    "egg": (Part(ELLIPSOID, (1.3, 0.95, 0.95)),),
    "mushroom": (Part(CYLINDER, (0.5, 0.85, 0), -0.25), Part(ELLIPSOID, (1.2, 1.2, 0.65), 0.75), Part(CYLINDER, (0.65, 0.1, 0), -1.0)),
    "spool": (Part(CYLINDER, (1.15, 0.22, 0), -0.78), Part(CYLINDER, (0.6, 0.6, 0)), Part(CYLINDER, (1.15, 0.22, 0), 0.78)),
}
NAMED: dict[str, Shape] = SHAPES | MORE_SHAPES

MESHES: dict[str, meshes.Mesh] = {
    "cone": meshes.revolved(((1.25, -0.9), (0.06, 1.5)), sides=24),
    "ring": meshes.torus(0.4, tall=1.7, sides=28),
    "star": meshes.extruded(meshes.star(5, 1.5, 0.65), 0.75),
    "pillow": meshes.superquadric(0.8, 0.35, (1.2, 1.2, 0.8)),
    "diamond": meshes.superquadric(0.5, 1.8, (1.45, 1.45, 0.9)),
    "blob": meshes.bumpy_ball((3, 4), 0.16, (1.2, 1.2, 1.2)),
    "crystal": meshes.bumpy_ball((4, 7), 0.22, (1.1, 1.1, 1.3)),
    "twist": meshes.twisted_prism(4, 1.3, 0.9, 1.25),
    "screw": meshes.twisted_prism(3, 2.2, 0.6, 1.3),
    "gear": meshes.extruded(meshes.petals(9, 1.08, 0.27, edge=2.5), 0.75),
    "clover": meshes.extruded(meshes.petals(4, 0.95, 0.4), 0.8),
    "heart": meshes.extruded(meshes.heart(), 0.8),
    "vase": meshes.revolved(((0.7, -0.9), (1.05, -0.5), (1.15, -0.1), (0.9, 0.5), (0.5, 1.0), (0.45, 1.2), (0.75, 1.6))),
    "hourglass": meshes.revolved(((1.1, -1.1), (1.1, -0.95), (0.75, -0.5), (0.4, 0.0), (0.75, 0.5), (1.1, 0.95), (1.1, 1.1))),
    "pawn": meshes.revolved(((1.1, -0.9), (1.1, -0.6), (0.6, -0.4), (0.4, 0.5), (0.7, 0.6), (0.4, 0.75), (0.7, 1.1), (0.7, 1.4), (0.35, 1.7))),
    "bell": meshes.revolved(((1.2, -1.0), (1.1, -0.8), (0.75, -0.2), (0.65, 0.4), (0.4, 0.8), (0.15, 0.95), (0.2, 1.2))),
    "wreath": meshes.torus(0.5, waves=6),
}
UNSEEN: dict[str, Shape] = {name: (Part(MESH, (1, 1, 1), mesh=name),) for name in MESHES if name not in NAMED} | {
    "jack": tuple(Part(CAPSULE, (0.34, 1.0, 0), turn=(-0.9553 * np.sin(a), 0.9553 * np.cos(a), 0.0)) for a in THIRDS),
    "stool": (Part(CYLINDER, (1.2, 0.2, 0), 0.7), *(
        Part(CYLINDER, (0.2, 0.7, 0), -0.2, 0.75 * np.cos(a), 0.75 * np.sin(a), shade=0.6) for a in THIRDS)),
    "stairs": (Part(BOX, (0.42, 0.9, 0.35), -0.55, -0.84), Part(BOX, (0.42, 0.9, 0.7), -0.2), Part(BOX, (0.42, 0.9, 1.05), 0.15, 0.84)),
    "snowman": (Part(SPHERE, (1.0, 0, 0)), Part(SPHERE, (0.72, 0, 0), 1.35), Part(CAPSULE, (0.1, 0.2, 0), 1.4, 0.75, turn=LYING, shade=0.3)),
    "hammer": (Part(CAPSULE, (0.3, 1.1, 0), x=0.2, turn=LYING), Part(BOX, (0.38, 0.9, 0.55), x=-0.9, shade=0.5)),
    "propeller": (Part(CYLINDER, (0.5, 0.85, 0), 0.25, shade=0.5), *(
        Part(BOX, (0.75, 0.24, 0.6), x=0.75 * np.cos(a), y=0.75 * np.sin(a), turn=(0.0, 0.0, a)) for a in THIRDS)),
}
ALL = NAMED | UNSEEN
LARGEST = max(map(len, (MORE_SHAPES | UNSEEN).values()))
"""Parts of the shape that has the most."""

DOWN = (0.0, 0.0, -1.0)


def has_mesh(shape: str) -> bool:
    """Whether the shape comes in one size only, `SIZE`."""
    return any(part.mesh for part in ALL[shape])


def half_height(shape: str, half_width: float) -> float:
    """Height of the object's centre above the table when it stands on it."""
    if shape in SHAPES:
        part = SHAPES[shape][0]
        return half_width * (part.size[{BOX: 2, CYLINDER: 1, SPHERE: 0}[part.geom]] - part.z)
    return half_width * max(part.reach(DOWN) for part in ALL[shape])


def grip_width(shape: str, half_width: float, yaw: float) -> float:
    """How far apart fingers that open along y are when they hold the object at its centre, turned by `yaw`."""
    if shape in SHAPES:
        return 2.0 * half_width * 1.05
    level = [part for part in ALL[shape] if part.reach((0.0, 0.0, 1.0)) > -0.4 and part.reach(DOWN) > -0.4]
    across = (float(np.sin(yaw)), float(np.cos(yaw)), 0.0)
    return 2 * half_width * max(abs(part.reach(direction)) for part in level for direction in (across, (-across[0], -across[1], 0.0)))

"""The surroundings of a scene, drawn from its seed: the table, what is behind it, and the light.

A `Kind` says what varies: `table` (texture and colour), `backdrop` (the table ends behind and beside the workspace, and floor and
wall come into view, each with a texture and colour), `lighting` (the lamp's place, brightness and colour, and the ambient light), or
`all` three. The *split* keeps training and test apart: they share no texture, no hue of table, floor or wall (the colour circle
is cut into twelve, every other piece for a test), and lamps in a test are dimmer, brighter and more coloured than any in training.
"""

from __future__ import annotations

from colorsys import hsv_to_rgb
from typing import Literal

import mujoco
import numpy as np

from robot_io.tabletop import textures
from robot_io.tabletop.objects import BOX
from robot_io.tabletop.slots import HIDDEN, add_material

Kind = Literal["plain", "table", "backdrop", "lighting", "all"]
Split = Literal["train", "test"]

TEXTURES = {"train": textures.TRAIN, "test": textures.TEST}
HUES = 12
SATURATION = (0.05, 0.55)
BRIGHTNESS = (0.35, 0.85)
LAMP = {"train": ((0.75, 1.25),), "test": ((0.45, 0.7), (1.3, 1.7))}
"""Shares of the lamp's usual brightness."""
TINT = {"train": 0.05, "test": 0.2}
SWING = {"train": 0.35, "test": 0.7}
"""Spread of the lamp's direction, as the tangent of an angle."""
COVERS = {"table": 7.0, "floor": 14.0, "wall": 10.0}
"""How often a texture repeats across a surface."""
TABLE, BOARD, FLOOR, WALL = "table", "board", "floor_cover", "wall_cover"


def add(spec: mujoco.MjSpec, kind: Kind) -> None:
    """Add the textures and surfaces that `kind` draws from; none for `plain` and `lighting`."""
    surfaces = {"table": ("table",), "backdrop": ("floor", "wall"), "all": ("table", "floor", "wall")}.get(kind, ())
    if not surfaces:
        return
    for name, pattern in (textures.TRAIN | textures.TEST).items():
        picture = textures.picture(pattern)
        spec.add_texture(name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, width=textures.N, height=textures.N,
                         nchannel=3).data = picture.tobytes()
        for surface in surfaces:
            add_material(spec, name, COVERS[surface], suffix=f"/{surface}")
    if "floor" in surfaces:
        plane = {"type": mujoco.mjtGeom.mjGEOM_PLANE, "size": [3, 3, 0.05], "contype": 0, "conaffinity": 0}
        spec.worldbody.add_geom(name=FLOOR, pos=[0, 0, -0.735], **plane)
        spec.worldbody.add_geom(name=WALL, pos=[-1.185, 0, 1.2], quat=[0.5, 0.5, 0.5, 0.5], **plane)
        # A plane's size is the renderer's once and for all, so a table of another size is a box, and the plane is only felt.
        spec.geom(TABLE).group = HIDDEN
        spec.worldbody.add_geom(name=BOARD, type=BOX, size=[0.7, 0.75, 0.01], pos=[0.4, 0, -0.01], rgba=spec.geom(TABLE).rgba,
                                contype=0, conaffinity=0)


def draw(model: mujoco.MjModel, kind: Kind, split: Split, rng: np.random.Generator) -> None:
    """Give a compiled model new surroundings."""
    if kind in ("table", "all"):
        _cover(model, TABLE if kind == "table" else BOARD, "table", split, rng)
    if kind in ("backdrop", "all"):
        _cover(model, FLOOR, "floor", split, rng)
        _cover(model, WALL, "wall", split, rng)
        back, front, side = rng.uniform(-0.02, 0.22), 1.1, rng.uniform(0.26, 0.5)
        model.geom(BOARD).pos = (back + front) / 2, 0, -0.01
        model.geom(BOARD).size = (front - back) / 2, side, 0.01
    if kind in ("lighting", "all"):
        _light(model, split, rng)


def vary_look(model: mujoco.MjModel, rng: np.random.Generator) -> None:
    """Another lamp and another table: brightness within a third, any muted colour."""
    model.light_diffuse[:] = 0.55 * rng.uniform(0.65, 1.3)
    colour = rng.uniform(0.3, 0.75) + rng.uniform(-0.1, 0.1, 3)
    for name in (TABLE, BOARD):
        if mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, name) >= 0:
            model.geom(name).rgba = (*colour, 1)


def _cover(model: mujoco.MjModel, geom: str, surface: str, split: Split, rng: np.random.Generator) -> None:
    name = str(rng.choice(list(TEXTURES[split])))
    piece = 2 * int(rng.integers(HUES // 2)) + (split == "test")
    colour = hsv_to_rgb((piece + rng.uniform(0, 1)) / HUES, rng.uniform(*SATURATION), rng.uniform(*BRIGHTNESS))
    model.geom(geom).matid = model.material(f"{name}/{surface}").id
    model.geom(geom).rgba = (*colour, 1)


def _light(model: mujoco.MjModel, split: Split, rng: np.random.Generator) -> None:
    ranges = LAMP[split]
    brightness = rng.uniform(*ranges[int(rng.integers(len(ranges)))])
    tint = 1 + rng.uniform(-TINT[split], TINT[split], 3)
    model.light_diffuse[:] = 0.55 * brightness * tint
    model.light_dir[:] = _unit(np.array([*rng.uniform(-SWING[split], SWING[split], 2), -1.0]))
    headlight = model.vis.headlight
    headlight.ambient = 0.35 * rng.uniform(0.75, 1.2) * tint
    headlight.diffuse = 0.25 * rng.uniform(0.5, 1.2) * tint


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)

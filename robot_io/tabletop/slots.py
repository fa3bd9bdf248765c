"""Object slots: free bodies that can become any object of a catalogue between two episodes, without compiling again.

A slot carries the geoms of the six basic shapes, each with its own kind, of which `dress` shows one set. If the task knows more
than those, it also carries `LARGEST` blank geoms that become whatever a shape's parts say: MuJoCo reads a geom's kind, size, place,
mesh and material anew at every step, provided that it was not told at compilation that the geom sits in its body's frame.
Lengths in metres.
"""

from __future__ import annotations

import mujoco
import numpy as np

from robot_io.tabletop import textures
from robot_io.tabletop.objects import ALL, BOX, CAPSULE, LARGEST, MESH, MESHES, SHAPES, SIZE, Part

OBJECT_MASS = 0.06
PARKED = np.array([0.0, 10.0, 1.0])  # where unused slots wait, out of every picture
VISIBLE, HIDDEN = 0, 4  # geom groups: MuJoCo draws groups 0 to 2
# What collides with what (contype, conaffinity): things with everything, the robot with things but not with itself.
THING, ROBOT, NOTHING = (1, 3), (2, 1), (0, 0)
ROLLING = 0.002  # friction, m: what can roll would leave the table, were it not slowed down


def add_meshes(spec: mujoco.MjSpec) -> None:
    """The meshes that blank geoms may turn into."""
    for name, (vertices, faces) in MESHES.items():
        mesh = spec.add_mesh(name=name)
        mesh.uservert, mesh.userface = (vertices * SIZE).ravel(), faces.ravel()


def add_textures(spec: mujoco.MjSpec) -> None:
    """What unseen objects wear."""
    for name, pattern in textures.WORN.items():
        picture = np.tile(textures.picture(pattern, dark=0.3)[::2, ::2], (6, 1, 1))  # the six faces of a cube, one below the other
        texture = spec.add_texture(name=name, type=mujoco.mjtTexture.mjTEXTURE_CUBE, width=picture.shape[1],
                                   height=picture.shape[0], nchannel=3)
        texture.data = picture.tobytes()
        add_material(spec, name)


def add_material(spec: mujoco.MjSpec, texture: str, repeat: float = 1.0, suffix: str = "") -> None:
    """A matt material that wears a texture and is named like it; the geom's own colour multiplies it."""
    material = spec.add_material(name=texture + suffix, specular=0.1, shininess=0.1, texrepeat=[repeat, repeat])
    names = material.textures
    names[mujoco.mjtTextureRole.mjTEXROLE_RGB] = texture
    material.textures = names


def add_slot(spec: mujoco.MjSpec, index: int, blanks: int) -> None:
    """A body `object{index}` with the geoms of the basic shapes and `blanks` geoms without a shape yet."""
    body = spec.worldbody.add_body(name=f"object{index}", pos=PARKED + np.array([0.3 * index, 0, 0]))
    body.add_freejoint(name=f"object{index}")
    body.explicitinertial, body.mass, body.ipos, body.iquat = True, OBJECT_MASS, [0, 0, 0], [1, 0, 0, 0]
    body.inertia = [OBJECT_MASS / 6 * 0.04**2] * 3  # of a 4 cm cube
    for name, parts in SHAPES.items():
        for i, part in enumerate(parts):
            rolls = part.geom != BOX
            body.add_geom(name=f"object{index}/{name}{i}", type=part.geom, size=np.maximum(np.array(part.size) * 0.025, 1e-3),
                          condim=6 if rolls else 4, friction=[1.0, 0.01, ROLLING if rolls else 0.0001], group=VISIBLE)
    for i in range(blanks):
        body.add_geom(name=blank(index, i), type=BOX, size=[0.01] * 3, friction=[1.0, 0.01, ROLLING], group=HIDDEN)


def blanks_for(shapes: tuple[str, ...], unseen: bool) -> int:
    """Blank geoms that a slot needs to become any of `shapes`, or anything `unseen`."""
    return LARGEST if unseen or any(shape not in SHAPES for shape in shapes) else 0


def blank(slot: int, part: int) -> str:
    return f"object{slot}/part{part}"


def free_blanks(model: mujoco.MjModel) -> None:
    """Let the blank geoms of a compiled model leave their body's frame."""
    for geom in range(model.ngeom):
        if "/part" in model.geom(geom).name:
            model.geom_sameframe[geom] = mujoco.mjtSameFrame.mjSAMEFRAME_NONE


def dress(model: mujoco.MjModel, slot: int, shape: str, half_width: float, rgb: tuple[float, float, float], texture: str = "") -> None:
    """Make slot `slot` look and collide like `shape`. Mass and inertia stay, so no constant has to be recomputed."""
    for name, parts in SHAPES.items():
        for i, part in enumerate(parts):
            geom = model.geom(f"object{slot}/{name}{i}")
            shown = name == shape
            _show(geom, shown)
            if shown:
                geom.size = np.array(part.size) * half_width
                geom.pos = (0, 0, part.z * half_width)
                geom.rgba = (*rgb, 1)
    parts = () if shape in SHAPES else ALL[shape]
    for i in range(model.body(f"object{slot}").geomnum[0] - sum(map(len, SHAPES.values()))):
        geom = model.geom(blank(slot, i))
        _show(geom, i < len(parts))
        if i < len(parts):
            _become(model, geom.id, parts[i], half_width, rgb, texture)


def _show(geom: mujoco._structs._MjModelGeomViews, shown: bool) -> None:
    geom.group = VISIBLE if shown else HIDDEN
    geom.contype, geom.conaffinity = THING if shown else NOTHING


def _become(model: mujoco.MjModel, geom: int, part: Part, half_width: float, rgb: tuple[float, float, float], texture: str) -> None:
    """Turn a blank geom into a part."""
    model.geom_type[geom] = part.geom
    model.geom_condim[geom] = 6 if part.geom not in (BOX, MESH) else 4
    position, quat = np.array([part.x, part.y, part.z]) * half_width, part.quat
    if part.geom == MESH:
        # MuJoCo keeps a mesh centred and turned to its inertia; undo that.
        mesh = model.mesh(part.mesh)
        offset, turned = np.empty(3), np.empty(4)
        mujoco.mju_rotVecQuat(offset, model.mesh_pos[mesh.id], quat)
        mujoco.mju_mulQuat(turned, quat, model.mesh_quat[mesh.id])
        position, quat = position + offset, turned
        start, count = mesh.vertadr[0], mesh.vertnum[0]
        vertices = model.mesh_vert[start:start + count]
        model.geom_dataid[geom] = mesh.id
        model.geom_size[geom] = np.abs(vertices).max(0)
        model.geom_rbound[geom] = np.linalg.norm(vertices, axis=1).max()
    else:
        size = np.array(part.size) * half_width
        model.geom_dataid[geom] = -1
        model.geom_size[geom] = size
        model.geom_rbound[geom] = size.sum() if part.geom == CAPSULE else np.linalg.norm(size)
    model.geom_pos[geom], model.geom_quat[geom] = position, quat
    model.geom_rgba[geom] = (*np.clip(np.array(rgb) * part.shade, 0, 1), 1)
    model.geom_matid[geom] = model.material(texture).id if texture else -1

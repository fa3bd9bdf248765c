"""The tabletop as a MuJoCo model: a table, a UR5e with a Robotiq 2F-85, two cameras, object slots and bowls.

The model is compiled once per robot; slots.py dresses it for each episode, backgrounds.py gives it its surroundings. Frames: the
world is the robot's base frame, x away from the robot, y to its left, z up, the table top at z = 0. Metres, kilograms, seconds.
"""

from __future__ import annotations

import mujoco
import numpy as np

from robot_io.tabletop import backgrounds
from robot_io.tabletop.assets import light_meshes, robot_files, use_light_meshes
from robot_io.tabletop.objects import BOX, CYLINDER
from robot_io.tabletop.objects import COLORS as COLORS
from robot_io.tabletop.objects import SHAPES as SHAPES
from robot_io.tabletop.slots import PARKED, ROBOT, THING, add_meshes, add_slot, add_textures, free_blanks

ARM_JOINTS = ("shoulder_pan_joint", "shoulder_lift_joint", "elbow_joint", "wrist_1_joint", "wrist_2_joint", "wrist_3_joint")
GRIPPER = "gripper/"
CAMERAS = ("front", "wrist")
TIMESTEP = 0.002
BOWL_RADIUS, BOWL_HEIGHT = 0.058, 0.03  # inside, at the bottom
TABLE_COLOR = (0.62, 0.56, 0.48)
BOWL_COLORS = {"white": (0.90, 0.90, 0.87), "brown": (0.40, 0.25, 0.14), "grey": (0.45, 0.45, 0.47)}


def build(n_objects: int, n_bowls: int, image_size: int, *, blanks: int = 0, unseen: bool = False,
          background: backgrounds.Kind = "plain") -> mujoco.MjModel:
    """Compile the scene with that many slots for objects and bowls.

    Args:
        blanks: geoms per slot for shapes beyond the basic six (see slots.py).
        unseen: whether slots may become unseen objects, which have textures.
        background: which surroundings will be drawn anew for each episode.
    """
    arm_file, gripper_file = robot_files()
    spec = mujoco.MjSpec.from_file(str(arm_file))
    gripper = mujoco.MjSpec.from_file(str(gripper_file))
    use_light_meshes(spec, light_meshes(arm_file, 16_000))
    use_light_meshes(gripper, light_meshes(gripper_file, 5_000))
    for key in spec.keys:
        key.delete()
    for light in spec.lights:
        light.delete()
    spec.attach(gripper, prefix=GRIPPER, site=spec.site("attachment_site"))
    _set_options(spec, image_size)
    _set_robot(spec)
    _add_surroundings(spec)
    _add_cameras(spec)
    if blanks:
        add_meshes(spec)
    if unseen:
        add_textures(spec)
    for i in range(n_objects):
        add_slot(spec, i, blanks)
    for i in range(n_bowls):
        _add_bowl(spec, i)
    backgrounds.add(spec, background)
    model = spec.compile()
    free_blanks(model)
    return model


def build_arm() -> mujoco.MjModel:
    """The arm alone with the tool site, for kinematics: no meshes, six joints."""
    arm_file, gripper_file = robot_files()
    spec, gripper = (mujoco.MjSpec.from_file(str(file)) for file in (arm_file, gripper_file))
    spec.attach(gripper, prefix=GRIPPER, site=spec.site("attachment_site"))
    for kind in ("keys", "geoms", "equalities", "actuators", "tendons", "excludes", "meshes"):
        for item in getattr(spec, kind):
            item.delete()
    for joint in spec.joints:
        if joint.name not in ARM_JOINTS:
            joint.delete()
    return spec.compile()


def tint_bowl(model: mujoco.MjModel, bowl: int, rgb: tuple[float, float, float]) -> None:
    """Give a bowl a colour."""
    body = model.body(f"bowl{bowl}")
    start = body.geomadr[0]
    model.geom_rgba[start:start + body.geomnum[0]] = (*rgb, 1)


def _set_options(spec: mujoco.MjSpec, image_size: int) -> None:
    spec.option.timestep = TIMESTEP
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC  # the gripper's model asks for both
    spec.option.impratio = 10
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_MIDPHASE  # its tree would not follow a change of size
    spec.stat.extent, spec.stat.center = 1.0, [0.4, 0, 0.2]
    visual = spec.visual
    visual.map.znear, visual.map.zfar = 0.01, 5.0
    visual.quality.shadowsize = visual.quality.offsamples = 0  # up to 100 ms a picture on a CPU
    visual.global_.offwidth = visual.global_.offheight = max(image_size, 64)
    visual.headlight.ambient, visual.headlight.diffuse = [0.35] * 3, [0.25] * 3
    visual.headlight.specular = [0.0] * 3


def _set_robot(spec: mujoco.MjSpec) -> None:
    """Compensate the arm's weight and track like a real UR5e does: Menagerie's servos lag by 0.2 s and sag.

    The robot does not collide with itself: nothing in the workspace makes it, and looking for it costs a third of the time.
    """
    for body in spec.bodies[1:]:
        body.gravcomp = 1
    for actuator in spec.actuators:
        if actuator.name.startswith(GRIPPER):
            continue
        strong = actuator.name in ("shoulder_pan", "shoulder_lift", "elbow")
        kp, kv = (4000, 280) if strong else (1000, 60)
        actuator.gainprm[0] = kp
        actuator.biasprm[1:3] = -kp, -kv
    for geom in spec.geoms:
        if geom.name.startswith(GRIPPER) and "_pad" in geom.name:
            geom.friction, geom.condim = [1.0, 0.02, 0.001], 4
        if geom.contype:
            geom.contype, geom.conaffinity = ROBOT


def _add_surroundings(spec: mujoco.MjSpec) -> None:
    world = spec.worldbody
    world.add_geom(name="table", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0.7, 0.75, 0.05], pos=[0.4, 0, 0],
                   rgba=[*TABLE_COLOR, 1], friction=[0.9, 0.005, 0.0005],
                   contype=THING[0], conaffinity=THING[1])
    world.add_geom(name="floor", type=BOX, size=[3, 3, 0.01], pos=[0, 0, -0.75], rgba=[0.30, 0.31, 0.33, 1],
                   contype=0, conaffinity=0)
    for name, x in (("wall", -1.2), ("far_wall", 2.4)):
        world.add_geom(name=name, type=BOX, size=[0.01, 3, 2], pos=[x, 0, 1.2], rgba=[0.72, 0.74, 0.76, 1],
                       contype=0, conaffinity=0)
    world.add_light(name="lamp", directional=True, castshadow=False, pos=[0.4, -0.4, 2], dir=[0.15, 0.35, -1],
                    diffuse=[0.55] * 3, specular=[0.15] * 3, ambient=[0.05] * 3)


def _add_cameras(spec: mujoco.MjSpec) -> None:
    quat = look_at(np.array([1.08, 0.0, 0.60]), np.array([0.44, 0.0, 0.085]), up=np.array([0.0, 0, 1]))
    spec.worldbody.add_camera(name="front", pos=[1.08, 0.0, 0.60], quat=quat, fovy=33)
    # On the robot's side of the fingers, which open along the tool's y axis, and tilted towards their tips: what is
    # between them stays in sight while they close.
    position = np.array([-0.085, 0.0, 0.03])
    quat = look_at(position, np.array([-0.01, 0.0, 0.15]), up=np.array([1.0, 0, 0]))
    spec.body(f"{GRIPPER}base").add_camera(name="wrist", pos=position, quat=quat, fovy=84)


def look_at(eye: np.ndarray, target: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Quaternion (wxyz) of a MuJoCo camera (looks along -z, y up) at `eye` that faces `target`."""
    backward = (eye - target) / np.linalg.norm(eye - target)
    right = np.cross(up, backward)
    right /= np.linalg.norm(right)
    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, np.stack([right, np.cross(backward, right), backward], axis=1).ravel())
    return quat


def _add_bowl(spec: mujoco.MjSpec, index: int) -> None:
    """A dish of twelve leaning walls on a disc. It stands still: a mocap body is moved by hand, never by contact."""
    body = spec.worldbody.add_body(name=f"bowl{index}", pos=PARKED + np.array([0.3 * index, 1, 0]), mocap=True)
    body.add_geom(name=f"bowl{index}/bottom", type=CYLINDER, size=[BOWL_RADIUS, 0.003, 0], pos=[0, 0, 0.003],
                  contype=THING[0], conaffinity=THING[1])
    lean, walls = np.deg2rad(25), 12
    for i in range(walls):
        angle = 2 * np.pi * i / walls
        radius = BOWL_RADIUS + np.tan(lean) * BOWL_HEIGHT / 2
        turn, tilt, quat = np.empty((3, 4))
        mujoco.mju_axisAngle2Quat(turn, np.array([0.0, 0, 1]), angle)
        mujoco.mju_axisAngle2Quat(tilt, np.array([0.0, 1, 0]), lean)
        mujoco.mju_mulQuat(quat, turn, tilt)
        position = [radius * np.cos(angle), radius * np.sin(angle), BOWL_HEIGHT / 2 + 0.003]
        body.add_geom(name=f"bowl{index}/wall{i}", type=BOX, pos=position, quat=quat,
                      size=[0.003, np.tan(np.pi / walls) * (radius + 0.008), BOWL_HEIGHT / 2 / np.cos(lean)],
                      contype=THING[0], conaffinity=THING[1])

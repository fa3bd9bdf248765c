"""The tabletop simulator as a `Simulator`: a UR5e with a Robotiq 2F-85, two RGB-D cameras, ten control steps a second.

What its state and actions mean is in `robot_io.arm`; the base's frame is the world's. Nothing is drawn until `observe` is called.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import mujoco
import numpy as np
from pydantic import Field

from robot_io.arm import arm_state
from robot_io.errors import UserError
from robot_io.registry import ComponentConfig
from robot_io.robot import Outcome
from robot_io.tabletop import backgrounds, scene, slots
from robot_io.tabletop.cameras import Cameras
from robot_io.tabletop.instances import ROBOT_MASK, ObjectState, instances_by_geom, slots_by_geom
from robot_io.tabletop.judge import judge
from robot_io.tabletop.kinematics import HOME, Kinematics, rotation_matrix, rotation_vector, tool_down
from robot_io.tabletop.layout import Layout, draw_layout
from robot_io.tabletop.objects import half_height
from robot_io.tabletop.randomize import measure_linkage, randomize
from robot_io.tabletop.spec import RATE_HZ, make_spec
from robot_io.tabletop.tasks import Task
from robot_io.tabletop.viewpoint import Viewpoint
from robot_io.types import Observation

LEASH, TURN_LEASH = 0.045, 0.3  # how far the commanded pose may run ahead of the measured one, m and rad
JOINT_LIMIT = 0.35  # likewise for joints, rad
REACH_LOW, REACH_HIGH = np.array([0.28, -0.30, 0.018]), np.array([0.68, 0.30, 0.40])


class TabletopRobot:
    """A simulated UR5e at a table of objects. Build it from a `Config` or from its fields."""

    class Config(ComponentConfig):
        """Options of the simulator.

        Attributes:
            image_size: height and width of both cameras' pictures.
            action_space: `ee_delta` or `joint`.
            vary_look: also draw the lamp's brightness and the table's colour from the seed.
            background: what of the surroundings is drawn from the seed: nothing, the table's texture and colour, the backdrop (floor
                and wall behind a smaller table), the lighting, or all three (see backgrounds.py).
            background_split: from which textures, colours and lamps; `test` shares none with `train`.
            camera_shift: metres by which, at most, the front camera stands elsewhere along each axis (see viewpoint.py), drawn from the seed.
            max_steps: control steps before an episode ends; None means 100 for pick and 160 for place.
            oracle: put the true masks into observations, for perception that is an upper bound (`CameraFrame.labels`).
        """

        kind: Literal["tabletop"] = "tabletop"
        task: Task = Task()
        image_size: int = Field(128, ge=32, le=1024)
        action_space: Literal["ee_delta", "joint"] = "ee_delta"
        vary_look: bool = False
        background: backgrounds.Kind = "plain"
        background_split: backgrounds.Split = "test"
        camera_shift: float = Field(0.0, ge=0, le=0.2)
        max_steps: int | None = Field(None, ge=1)
        oracle: bool = False

    expert = "robot_io.tabletop.expert:Expert"
    """Address of the class that demonstrates (see `robot_io.robot.Demonstrator`)."""

    def __init__(self, config: Config | None = None, **options: object) -> None:
        self.config = config or self.Config(**options)
        task = self.config.task
        self.max_steps = self.config.max_steps or (100 if task.task == "pick" else 160)
        self.spec = make_spec(self.config.image_size, self.config.action_space)
        unseen = task.clutter == "unseen"
        self.model = scene.build(1 + task.distractors, task.n_bowls, self.config.image_size, unseen=unseen,
                                 blanks=slots.blanks_for(task.shapes, unseen), background=self.config.background)
        self.data = mujoco.MjData(self.model)
        self.kinematics, self._viewpoint = Kinematics(), Viewpoint(self.model)
        self.layout: Layout | None = None
        self._cameras: Cameras | None = None
        self._outcome = Outcome(False, False, False, 0)
        self._index()

    # The contract ---------------------------------------------------------------------------------------------

    def reset(self, seed: int) -> None:
        """Lay out the scene of `seed`; the arm waits above it, never at quite the same place."""
        rng = np.random.default_rng([seed, 0])
        self.lay_out(draw_layout(self.config.task, rng))
        start = np.array([0.45, 0.0, 0.20]) + rng.uniform(-1, 1, 3) * [0.03, 0.06, 0.025]
        self.pose_arm(start, tool_down(rng.uniform(-0.1, 0.1)))
        self._draw_surroundings(rng)

    def randomize(self, seed: int) -> None:
        """Any scene with the arm anywhere, for pictures to learn to see from; much cheaper than an episode."""
        rng = np.random.default_rng([seed, 2])
        randomize(self, rng)
        self._draw_surroundings(rng)

    def observe(self) -> Observation:
        """Draw both cameras and read the state."""
        self._require_reset()
        frames = {name: self._drawn().frame(self.data, name) for name in scene.CAMERAS}
        if self.config.oracle:
            frames = {name: replace(frames[name], labels=labels) for name, labels in self.labels().items()}
        return Observation(frames, self.state(), self.layout.instruction, float(self.data.time))

    def act(self, action: np.ndarray) -> None:
        """Carry out one action for a tenth of a second; numbers beyond the limits are clipped to them."""
        self._require_reset()
        action = self._checked(action)
        measured = self.joints()
        if self.config.action_space == "ee_delta":
            self._target = self.target_after(action)
            joints, _ = self.kinematics.inverse(self._command, *self._target, iterations=8)
            joints = np.clip(joints, measured - JOINT_LIMIT, measured + JOINT_LIMIT)
        else:
            joints = np.clip(action[:6], measured - JOINT_LIMIT, measured + JOINT_LIMIT)
            self._target = self.kinematics.forward(joints)
        self._run(joints, action[6])
        self._outcome = judge(self, self._outcome, self.max_steps)

    def outcome(self) -> Outcome:
        return self._outcome

    def close(self) -> None:
        if self._cameras is not None:
            self._cameras.close()
            self._cameras = None

    # What the robot measures ----------------------------------------------------------------------------------

    def state(self) -> np.ndarray:
        """`float32 [16]`, see `robot_io.arm`."""
        position, rotation = self.tool()
        return arm_state(position, rotation, self.opening(), self.joints())

    def tool(self) -> tuple[np.ndarray, np.ndarray]:
        """Measured position and rotation of the point between the fingertips."""
        return self.data.site_xpos[self._tool].copy(), self.data.site_xmat[self._tool].reshape(3, 3).copy()

    def opening(self) -> float:
        """Of the gripper: 0 closed … 1 open."""
        return float(np.clip(1 - self.data.qpos[self._driver] / 0.8, 0, 1))

    def joints(self) -> np.ndarray:
        return self.data.qpos[:6].copy()

    # For experts, labels and evaluation, never part of an observation --------------------------------------------

    def object_state(self) -> list[ObjectState]:
        """The objects on the table, in the order of their mask ids (1, 2, …)."""
        self._require_reset()
        found = []
        for i, item in enumerate(self.layout.items):
            position = self.data.body(f"object{i}").xpos.copy()
            found.append(ObjectState(i + 1, item.name, item.color, item.shape, position, item.half_width,
                                     float(position[2] - self._rest[i]), i == self.layout.target))
        return found

    def bowl_position(self) -> np.ndarray | None:
        """Of the bowl that the instruction is about, `float64 [3]`."""
        return None if self.layout.bowl is None else self.data.mocap_pos[self.layout.bowl].copy()

    def masks(self) -> dict[str, np.ndarray]:
        """Instance ids `int32 [H, W]` by camera: 0 background, objects from 1, then bowls, the robot `ROBOT_MASK`."""
        self._require_reset()
        table = self._instance_of_geom
        return {name: table[self._drawn().geom_ids(self.data, name)] for name in scene.CAMERAS}

    def labels(self) -> dict[str, dict[str, np.ndarray]]:
        """By camera the masks `bool [H, W]` of everything by name: objects, bowls ("white bowl") and the robot."""
        names = [*(item.name for item in self.layout.items), *(f"{bowl.color} bowl" for bowl in self.layout.bowls), "robot"]
        first_bowl = 2 + self.config.task.distractors
        ids = [*range(1, 1 + len(self.layout.items)), *range(first_bowl, first_bowl + len(self.layout.bowls)), ROBOT_MASK]
        return {camera: {name: mask == i for name, i in zip(names, ids, strict=True)} for camera, mask in self.masks().items()}

    def grasped(self) -> int | None:
        """Index of the object that both fingers touch, if any."""
        touched: dict[int, set[int]] = {}
        for pair in self.data.contact.geom:
            for pad, other in (pair, pair[::-1]):
                if pad in self._pads and other in self.slot_of_geom:
                    touched.setdefault(self.slot_of_geom[other], set()).add(self._pads[pad])
        return next((slot for slot, fingers in touched.items() if len(fingers) == 2), None)

    def belongs_to_robot(self, geom: int) -> bool:
        return self._instance_of_geom[geom] == ROBOT_MASK

    def target_after(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The commanded tool pose after an `ee_delta` action: on a leash to the measured pose, inside the workspace."""
        (at, facing), (position, rotation) = self.tool(), self._target
        ahead = position + action[:3] - at
        position = at + ahead * min(1.0, LEASH / max(np.linalg.norm(ahead), 1e-9))
        turn = rotation_vector(rotation_matrix(action[3:6]) @ rotation @ facing.T)
        rotation = rotation_matrix(turn * min(1.0, TURN_LEASH / max(np.linalg.norm(turn), 1e-9))) @ facing
        return np.clip(position, REACH_LOW, REACH_HIGH), rotation

    # Setting the scene ----------------------------------------------------------------------------------------

    def lay_out(self, layout: Layout) -> None:
        """Put objects and bowls where `layout` says; slots it does not use wait out of sight."""
        self.layout, self._outcome = layout, Outcome(False, False, False, 0)
        mujoco.mj_resetData(self.model, self.data)
        self._rest = np.array([half_height(item.shape, item.half_width) for item in layout.items])
        for i in range(1 + self.config.task.distractors):
            used = i < len(layout.items)
            self.model.body_gravcomp[self.model.body(f"object{i}").id] = 0 if used else 1
            if used:
                item = layout.items[i]
                slots.dress(self.model, i, item.shape, item.half_width, item.rgb, item.texture)
                self.place_object(i, np.array([*item.position, self._rest[i]]), item.yaw)
        for i, bowl in enumerate(layout.bowls):
            scene.tint_bowl(self.model, i, scene.BOWL_COLORS[bowl.color])
            self.data.mocap_pos[i] = *bowl.position, 0.0

    def place_object(self, index: int, position: np.ndarray, yaw: float) -> None:
        """Put an object somewhere, at rest."""
        start = self.model.joint(f"object{index}").qposadr[0]
        self.data.qpos[start:start + 3] = position
        self.data.qpos[start + 3:start + 7] = np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)

    def pose_arm(self, position: np.ndarray, rotation: np.ndarray, opening: float = 1.0) -> float:
        """Put the arm at a tool pose, at rest; returns what inverse kinematics missed it by, in metres or radians."""
        joints, error = self.kinematics.inverse(HOME, position, rotation, iterations=60)
        self.data.qpos[:6] = joints
        self.data.ctrl[:6] = joints
        self.set_gripper(opening)
        self._command = joints
        mujoco.mj_forward(self.model, self.data)
        self._target = self.tool()
        return error

    def set_gripper(self, opening: float) -> None:
        """Put the fingers' linkage at an opening, at rest."""
        self.data.ctrl[6] = 255 * (1 - opening)
        self.data.qpos[self._linkage] = self._linkage_at(opening)

    # Inside ----------------------------------------------------------------------------------------------------

    def _checked(self, action: np.ndarray) -> np.ndarray:
        action = np.asarray(action, np.float64)
        spec = self.spec.action
        if action.shape != (spec.dim,):
            raise UserError("action", f"shape {action.shape}", f"({spec.dim},): {', '.join(spec.names)}",
                            "check that the driver was made for this robot's action space")
        if not np.isfinite(action).all():
            raise UserError("action", "it holds NaN or infinite values", "finite numbers", "hold the robot and check the driver")
        return np.clip(action, spec.low, spec.high)

    def _run(self, joints: np.ndarray, gripper: float) -> None:
        """Simulate one control period, the servos' set points moving evenly from the last command to `joints`."""
        parts, substeps = 5, round(1 / RATE_HZ / scene.TIMESTEP)
        self.data.ctrl[6] = 255 * (1 - gripper)
        for i in range(1, parts + 1):
            self.data.ctrl[:6] = self._command + (joints - self._command) * i / parts
            mujoco.mj_step(self.model, self.data, substeps // parts)
        self._command = joints
        self._settle_poses()

    def _draw_surroundings(self, rng: np.random.Generator) -> None:
        if self.config.vary_look:
            backgrounds.vary_look(self.model, rng)
        if self.config.background != "plain":
            backgrounds.draw(self.model, self.config.background, self.config.background_split, rng)
        if self.config.camera_shift:
            self._viewpoint.draw(self.model, self.config.camera_shift, rng)
        self._settle_poses()

    def _settle_poses(self) -> None:
        """A step, or a change of the model, leaves poses in the world as they were before it."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def _drawn(self) -> Cameras:
        if self._cameras is None:
            cameras = Cameras(self.model, self.config.image_size)
            cameras.check(self.data, scene.CAMERAS[0])
            self._cameras = cameras
        return self._cameras

    def _require_reset(self) -> None:
        if self.layout is None:
            raise UserError("tabletop robot", "it has no scene yet", "a scene", "call reset(seed) first")

    def _linkage_at(self, opening: float) -> np.ndarray:
        """Positions of the gripper's eight joints at an opening, from a table measured once."""
        openings, positions = self._linkage_table
        return np.array([np.interp(opening, openings, column) for column in positions.T])

    def _index(self) -> None:
        """Look up, once, which number means what in the model."""
        model = self.model
        self._tool = model.site(f"{scene.GRIPPER}pinch").id
        self._driver = model.joint(f"{scene.GRIPPER}right_driver_joint").qposadr[0]
        fingers = [i for i in range(model.njnt) if model.joint(i).name.startswith(scene.GRIPPER)]
        self._linkage = model.jnt_qposadr[fingers]
        self._linkage_table = measure_linkage(model, self._linkage)
        self._pads = {model.geom(f"{scene.GRIPPER}{side}_pad{i}").id: finger
                      for finger, side in enumerate(("left", "right")) for i in (1, 2)}
        self.slot_of_geom = slots_by_geom(model)
        self._instance_of_geom = instances_by_geom(model, 1 + self.config.task.distractors)

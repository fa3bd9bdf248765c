"""What a robot measures and accepts, written down once and compared at every hand-over.

The same `RobotSpec` is stored in the data set, carried in the policy folder, sent in the server's first message and
checked by the client, by training and by evaluation. That is how the field's most common silent failures (delta taken
for absolute, swapped cameras, another gripper sign, another rate) become one readable error.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from robot_io.errors import SpecMismatch, UserError

MODES = ("absolute", "delta", "relative")


@dataclass(frozen=True)
class CameraSpec:
    """A camera's name, picture size in pixels, and whether it measures depth."""

    name: str
    height: int
    width: int
    depth: bool = False


@dataclass(frozen=True)
class ObservationSpec:
    """Cameras, and the meaning and unit of each number of the state vector."""

    cameras: tuple[CameraSpec, ...]
    state: tuple[str, ...]
    state_units: tuple[str, ...]

    @property
    def camera_names(self) -> tuple[str, ...]:
        return tuple(camera.name for camera in self.cameras)


@dataclass(frozen=True)
class ActionSpec:
    """The meaning of an action vector.

    Attributes:
        names, units: one per dimension.
        low, high: limits per dimension, in those units.
        modes: per dimension `absolute` (a target), `delta` (added to the previous target, each step) or
            `relative` (added to the state at the start of the chunk).
        rate_hz: control steps per second.
        frame: the frame of Cartesian dimensions: `base`, `tool`, or `joint` for joint space.
        rotation: the form of rotational dimensions: `none`, `rotvec`, `euler_xyz`, `quat_xyzw`, `rot6d`.
        gripper: index of the gripper dimension, or None.
        gripper_open, gripper_closed: the values that fully open and fully close it.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    modes: tuple[str, ...]
    rate_hz: float
    frame: str = "base"
    rotation: str = "none"
    gripper: int | None = None
    gripper_open: float = 1.0
    gripper_closed: float = 0.0

    def __post_init__(self) -> None:
        for field_name in ("units", "low", "high", "modes"):
            if len(getattr(self, field_name)) != self.dim:
                raise UserError(
                    f"action spec '{field_name}'",
                    f"{len(getattr(self, field_name))} entries",
                    f"{self.dim}, one per name",
                    "list every dimension",
                )
        if unknown := set(self.modes) - set(MODES):
            raise UserError("action spec 'modes'", f"{sorted(unknown)}", f"only {MODES}", "use one of these words")

    @property
    def dim(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class RobotSpec:
    """Everything two programs must agree on before one may drive the other's robot."""

    robot: str
    observation: ObservationSpec
    action: ActionSpec

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RobotSpec:
        """Rebuild from `to_dict` after a trip through JSON or msgpack."""
        try:
            observation, action = data["observation"], data["action"]
            return cls(
                robot=data["robot"],
                observation=ObservationSpec(
                    cameras=tuple(CameraSpec(**camera) for camera in observation["cameras"]),
                    state=tuple(observation["state"]),
                    state_units=tuple(observation["state_units"]),
                ),
                action=ActionSpec(**{k: tuple(v) if isinstance(v, list) else v for k, v in action.items()}),
            )
        except (KeyError, TypeError) as error:
            raise UserError(
                "robot spec",
                f"cannot be read ({error})",
                "a spec written by this project",
                "write it again with the current version",
            ) from None

    def hold(self, state: np.ndarray) -> np.ndarray:
        """The action that keeps the robot where it is, gripper open: `float32 [A]`.

        Args:
            state: `[S]`, as measured; absolute targets are read from its entries of the same names.

        Raises:
            UserError: an absolute dimension whose present value the state does not tell.
        """
        action = self.action
        found = np.zeros(action.dim, np.float32)
        for i, (name, mode) in enumerate(zip(action.names, action.modes, strict=True)):
            if i == action.gripper:
                found[i] = action.gripper_open
            elif mode == "absolute":
                if name not in self.observation.state:
                    raise UserError(f"robot '{self.robot}'", f"its action '{name}' is absolute and its state has no '{name}'",
                                    "a state that tells how to hold still", "record it, or turn abstaining off")
                found[i] = state[self.observation.state.index(name)]
        return found

    @property
    def hash(self) -> str:
        """A short digest: equal specs, equal hashes."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:12]

    def with_cameras(self, names: tuple[str, ...]) -> RobotSpec:
        """The same robot seen through fewer cameras, in the given order."""
        by_name = {camera.name: camera for camera in self.observation.cameras}
        for name in names:
            if name not in by_name:
                raise missing_camera(name, tuple(by_name), self.robot)
        return replace(self, observation=replace(self.observation, cameras=tuple(by_name[n] for n in names)))


def missing_camera(name: str, available: tuple[str, ...], where: str) -> UserError:
    return UserError(
        f"camera '{name}'",
        f"not among the cameras of {where}",
        f"one of {', '.join(available) or 'none'}",
        "rename the camera, or name the right ones with data.cameras=[…]",
    )


def differences(policy: RobotSpec, robot: RobotSpec) -> list[str]:
    """What `policy` was made for against what `robot` is, one line per disagreement; empty if it may drive it.

    The robot may have more cameras than the policy looks at; everything else must be equal.
    """
    found = []
    cameras = {camera.name: camera for camera in robot.observation.cameras}
    for camera in policy.observation.cameras:
        other = cameras.get(camera.name)
        if other is None:
            found.append(f"camera '{camera.name}': the policy needs it, the robot has {', '.join(cameras) or 'none'}")
        elif camera.depth and not other.depth:
            found.append(f"camera '{camera.name}': the policy needs depth, the robot's has none")
        elif (camera.height, camera.width) != (other.height, other.width):
            found.append(f"camera '{camera.name}': {camera.height}x{camera.width} against {other.height}x{other.width}")
    for part, names in (("observation", ("state", "state_units")), ("action", tuple(ActionSpec.__dataclass_fields__))):
        for name in names:
            ours, theirs = (getattr(getattr(spec, part), name) for spec in (policy, robot))
            if ours != theirs:
                found.append(f"{part}.{name}: the policy says {ours}, the robot says {theirs}")
    return found


def require_compatible(policy: RobotSpec, robot: RobotSpec, *, thing: str = "policy") -> None:
    """Refuse to go on unless a policy made for `policy` may drive `robot`.

    Raises:
        SpecMismatch: listing every disagreement, both sides of it.
    """
    if found := differences(policy, robot):
        raise SpecMismatch(
            thing,
            f"made for robot '{policy.robot}', does not fit robot '{robot.robot}':\n  - " + "\n  - ".join(found) + "\n",
            "the same specification on both sides",
            "use a policy trained on this robot's data, or configure the robot to match",
        )

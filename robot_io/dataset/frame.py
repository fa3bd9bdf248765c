"""Whether a frame may be recorded: every mistake a robot's code can make, found before a byte is written."""

from __future__ import annotations

import numpy as np

from robot_io.errors import UserError
from robot_io.specs import CameraSpec, RobotSpec
from robot_io.types import CameraFrame, Observation


def check_frame(spec: RobotSpec, observation: Observation, action: np.ndarray, posed: tuple[str, ...] | None) -> None:
    """Refuse a frame that does not fit `spec`.

    Args:
        spec: the robot.
        observation: what it saw; cameras that the spec does not name are ignored.
        action: `[A]`.
        posed: the cameras whose pose earlier frames had, or None before the first frame.
    """
    check_vector("action", action, spec.action.names)
    check_vector("state", observation.state, spec.observation.state)
    for camera in spec.observation.cameras:
        if camera.name not in observation.cameras:
            raise UserError(f"camera '{camera.name}'", f"missing; the observation has {', '.join(observation.cameras) or 'none'}",
                            f"every camera of robot '{spec.robot}'", "give a frame of it, or record with a spec without it")
        check_camera(camera, observation.cameras[camera.name], None if posed is None else camera.name in posed)


def check_vector(name: str, values: np.ndarray, names: tuple[str, ...]) -> None:
    values = np.asarray(values)
    if values.shape != (len(names),):
        raise UserError(f"recorded {name}", f"shape {values.shape}", f"({len(names)},): {', '.join(names)}",
                        "record with the spec of this robot")
    if not np.isfinite(values).all():
        bad = [names[i] for i in np.flatnonzero(~np.isfinite(values))]
        raise UserError(f"recorded {name}", f"NaN or infinite in {', '.join(bad)}", "finite numbers",
                        "discard this episode and look at the sensor or driver that gave it")


def check_camera(camera: CameraSpec, frame: CameraFrame, posed: bool | None) -> None:
    thing = f"camera '{camera.name}'"
    if frame.rgb.shape[:2] != (camera.height, camera.width):
        raise UserError(thing, "a picture of {}x{}".format(*frame.rgb.shape[:2]), f"{camera.height}x{camera.width}",
                        "resize the pictures or change the spec")
    if camera.depth and frame.depth is None:
        raise UserError(thing, "no depth", "depth, as its spec says", "give depth, or record with depth=False")
    pose = frame.world_from_camera
    if posed is not None and posed != (pose is not None):
        raise UserError(thing, f"{'no' if posed else 'a'} pose", "a pose in every frame, or in none", "be consistent")
    if pose is not None and (np.shape(pose) != (4, 4) or not np.isfinite(pose).all()):
        raise UserError(f"{thing}: pose", f"shape {np.shape(pose)} or not finite", "a finite [4, 4] matrix", "give one or None")

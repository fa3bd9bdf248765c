"""The parcels that cross the border between a robot and a policy: `Observation` (and `Underway`) in, `ActionChunk` out.

NumPy only: a robot PC installs nothing heavier. Frames follow the OpenCV convention (camera z forward, x right,
y down); `world` is the robot's base frame unless a robot says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from robot_io.errors import UserError
from robot_io.specs import ActionSpec


@dataclass(frozen=True)
class CameraFrame:
    """One picture of one camera.

    Attributes:
        rgb: `uint8 [H, W, 3]`.
        depth: `float32 [H, W]`, metres along the optical axis, or None where the camera has none.
        intrinsics: `float32 [3, 3]`, pixels; None if unknown.
        world_from_camera: `float32 [4, 4]`, maps camera coordinates (OpenCV) to the world; None if unknown.
        labels: ground truth of a simulator that was asked for it: `bool [H, W]` by the name of each thing ("red cube",
            "white bowl", "robot"). Never sent to a server and never recorded. None from anyone else.
    """

    rgb: UInt8[np.ndarray, "h w 3"]
    depth: Float32[np.ndarray, "h w"] | None = None
    intrinsics: Float32[np.ndarray, "3 3"] | None = None
    world_from_camera: Float32[np.ndarray, "4 4"] | None = None
    labels: dict[str, Bool[np.ndarray, "h w"]] | None = None

    def __post_init__(self) -> None:
        if self.rgb.ndim != 3 or self.rgb.shape[2] != 3 or self.rgb.dtype != np.uint8:
            raise UserError(
                "camera frame",
                f"rgb is {self.rgb.dtype} {self.rgb.shape}",
                "uint8 [H, W, 3]",
                "convert the picture to 8-bit RGB, channels last",
            )
        if self.depth is not None and self.depth.shape != self.rgb.shape[:2]:
            raise UserError(
                "camera frame",
                f"depth is {self.depth.shape}",
                f"{self.rgb.shape[:2]}, as rgb",
                "register depth to the colour camera",
            )


@dataclass(frozen=True)
class Observation:
    """What the robot perceives at one instant.

    Attributes:
        cameras: frames by camera name.
        state: `float32 [S]`, in the units and order of `ObservationSpec.state`.
        instruction: what the robot is asked to do, in words.
        time: seconds on the robot's clock.
    """

    cameras: dict[str, CameraFrame]
    state: Float32[np.ndarray, " s"]
    instruction: str
    time: float = 0.0


@dataclass(frozen=True)
class ActionChunk:
    """Actions for consecutive control steps, in the robot's own units.

    Attributes:
        actions: `float32 [T, A]`.
        spec: what each of the A numbers means.
        time: seconds on the robot's clock at which the first action applies.
    """

    actions: Float32[np.ndarray, "t a"]
    spec: ActionSpec
    time: float = 0.0
    info: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.actions.ndim != 2 or self.actions.shape[1] != self.spec.dim:
            raise UserError(
                "action chunk",
                f"actions are {self.actions.shape}",
                f"[T, {self.spec.dim}] ({', '.join(self.spec.names)})",
                "check that the policy was trained for this robot's action space",
            )
        if not np.isfinite(self.actions).all():
            raise UserError(
                "action chunk", "it holds NaN or infinite values", "finite numbers", "hold the robot and retrain"
            )


@dataclass(frozen=True)
class Underway:
    """What the robot is going to do anyway while it waits for a chunk: what real-time chunking continues from.

    Attributes:
        actions: `float32 [P, A]`, the rest of the running chunk from the present step on, in the robot's own units.
        delay: how many of them will probably have been carried out when the answer arrives, `0 <= delay <= P`. The new
            chunk must equal them there, and should stay near the others.
    """

    actions: Float32[np.ndarray, "p a"]
    delay: int

    def __post_init__(self) -> None:
        if self.actions.ndim != 2 or not np.isfinite(self.actions).all() or not 0 <= self.delay <= len(self.actions):
            raise UserError("prefix", f"actions {self.actions.shape}, delay {self.delay}",
                            "finite actions [P, A] and a delay from 0 to P", "give what the robot is carrying out")

"""PushT (Chi et al., Diffusion Policy, arXiv 2303.04137, sec. V-B; the package gym-pusht): push the grey T onto the green one.

    camera    `top`, RGB
    state     float32 [2]: the pusher's place, pixels of a 512×512 board; with `keypoints` float32 [18], the T's eight corners after it
    action    float32 [2] at 10 Hz: where the pusher should be

Success is the benchmark's: more than 95 % of the goal is covered, at any time. The expert of `robot_io.simulators.pusht_expert` plans strokes.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from robot_io.errors import UserError
from robot_io.registry import ComponentConfig
from robot_io.robot import Outcome
from robot_io.specs import ActionSpec, CameraSpec, ObservationSpec, RobotSpec
from robot_io.types import CameraFrame, Observation

BOARD = 512.0
RATE_HZ = 10.0
INSTRUCTION = "push the grey T onto the green one"
PUSHER = ("x", "y")
CORNERS = tuple(f"corner_{i}_{axis}" for i in range(8) for axis in PUSHER)


class PushT:
    """See the module's text. Fulfils `robot_io.robot.Simulator`."""

    class Config(ComponentConfig):
        kind: Literal["pusht"] = "pusht"
        image_size: int = Field(96, ge=32, le=512, description="side of the picture, pixels")
        max_steps: int = Field(300, ge=1, description="control steps in an episode, as in the benchmark")

        keypoints: bool = Field(False, description="the T's corners are part of the state, as in the benchmark's setting without pictures")

    expert = "robot_io.simulators.pusht_expert:Expert"

    def __init__(self, config: Config | None = None, **options: Any) -> None:
        self.config = config or self.Config(**options)
        size = self.config.image_size
        self.environment = board(size)
        state = PUSHER + CORNERS * self.config.keypoints
        self.spec = RobotSpec(
            robot="pusht",
            observation=ObservationSpec((CameraSpec("top", size, size),), state, ("px",) * len(state)),
            action=ActionSpec(names=("x", "y"), units=("px", "px"), low=(0.0, 0.0), high=(BOARD, BOARD), modes=("absolute", "absolute"),
                              rate_hz=RATE_HZ),
        )

    def reset(self, seed: int) -> None:
        self.environment.reset(seed=seed)
        self.steps, self.coverage = 0, 0.0

    def observe(self) -> Observation:
        picture = self.environment._render()  # the picture of the observation; `render` would add a marker
        return Observation(cameras={"top": CameraFrame(rgb=np.ascontiguousarray(picture))}, state=self.state(), instruction=INSTRUCTION,
                           time=self.steps / RATE_HZ)

    def state(self) -> np.ndarray:
        pusher = np.array(self.environment.agent.position, np.float32)
        return np.concatenate([pusher, self.corners().ravel()]) if self.config.keypoints else pusher

    def corners(self) -> Float[np.ndarray, "8 2"]:
        """Where the corners of the T's bar and stem are, pixels."""
        block, shapes = self.environment.block, self.environment._block_shapes  # not `block.shapes`: a set has no order to rely on
        return np.array([block.local_to_world(corner) for shape in shapes for corner in shape.get_vertices()], np.float32)

    def act(self, action: np.ndarray) -> None:
        _, _, _, _, info = self.environment.step(np.clip(action, 0, BOARD).astype(np.float64))
        self.steps += 1
        self.coverage = max(self.coverage, float(info["coverage"]))

    def outcome(self) -> Outcome:
        success = self.coverage > self.environment.success_threshold
        return Outcome(success or self.steps >= self.config.max_steps, success, False, self.steps)

    def close(self) -> None:
        self.environment.close()


def board(size: int) -> Any:
    """The package's environment, drawing pictures of `size` pixels.

    Raises:
        UserError: the package is not installed.
    """
    try:
        from gym_pusht.envs.pusht import PushTEnv
    except ImportError as error:
        raise UserError("robot 'pusht'", f"a package is missing ({error.name})", "gym-pusht 0.1.8", "run: pip install 'swapvla[pusht]'") from None
    # Drawn on every step otherwise: the state is what `step` returns, and nobody reads it.
    return PushTEnv(obs_type="state", observation_width=size, observation_height=size)

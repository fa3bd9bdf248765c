"""The tabletop as a Gymnasium environment, `swapvla/Tabletop-v0`, for tools that speak that language.

Observation: `{"front", "wrist": uint8 [H, W, 3], "state": float32 [16]}`; action: `TabletopRobot`'s, `float32 [7]`; reward: 1 at
success. The instruction is in `info`. Every `reset` and `step` draws both cameras (about 8 ms); with `images=False` none is
drawn, and `TabletopRobot` itself draws only when asked, which is what a chunked policy wants.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from robot_io.tabletop.robot import TabletopRobot

__all__ = ["TabletopEnv", "TabletopRobot"]

LARGEST_SEED = 2**31


class TabletopEnv(gymnasium.Env):
    """Wraps a `TabletopRobot` made with `options`, which is at hand as `env.unwrapped.robot`."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, images: bool = True, render_mode: str | None = None, **options: Any) -> None:
        self.robot = TabletopRobot(**options)
        self.images, self.render_mode = images, render_mode
        spec = self.robot.spec
        self.action_space = spaces.Box(np.array(spec.action.low, np.float32), np.array(spec.action.high, np.float32))
        seen = {"state": spaces.Box(-np.inf, np.inf, (len(spec.observation.state),), np.float32)}
        if images:
            seen |= {c.name: spaces.Box(0, 255, (c.height, c.width, 3), np.uint8) for c in spec.observation.cameras}
        self.observation_space = spaces.Dict(seen)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        self.robot.reset(int(self.np_random.integers(LARGEST_SEED)) if seed is None else seed)
        return self._observation(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        self.robot.act(action)
        outcome = self.robot.outcome()
        return self._observation(), float(outcome.success), outcome.success, outcome.done and not outcome.success, self._info()

    def render(self) -> np.ndarray | None:
        """Both cameras side by side."""
        if self.render_mode != "rgb_array":
            return None
        return np.concatenate([frame.rgb for frame in self.robot.observe().cameras.values()], axis=1)

    def close(self) -> None:
        self.robot.close()

    def _observation(self) -> dict[str, np.ndarray]:
        seen = {"state": self.robot.state()}
        if self.images:
            seen |= {name: frame.rgb for name, frame in self.robot.observe().cameras.items()}
        return seen

    def _info(self) -> dict[str, Any]:
        outcome = self.robot.outcome()
        return {"instruction": self.robot.layout.instruction, "wrong_object": outcome.wrong_object, "steps": outcome.steps}

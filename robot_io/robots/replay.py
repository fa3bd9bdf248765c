"""A data set played back as a robot: to try a client, a server or a policy on what a robot really saw, without one.

Whatever is sent to it, the next observation is the recorded one. It compares what it is sent with what was recorded: a policy that is
wired correctly and trained on such data comes near; swapped cameras, lost normalisation or another action space do not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from robot_io.dataset import Dataset
from robot_io.errors import UserError
from robot_io.registry import ComponentConfig
from robot_io.robot import Outcome
from robot_io.types import CameraFrame, Observation


class Replay:
    """Plays one episode after `reset`. Build it from a `Config` or from its fields."""

    class Config(ComponentConfig):
        """What to play.

        Attributes:
            root: folder of a data set recorded by this project.
            tolerance: of the mean difference between sent and recorded actions, as a share of each dimension's range: below it the
                episode counts as a success.
        """

        kind: Literal["replay"] = "replay"
        root: Path
        tolerance: float = Field(0.1, gt=0)

    def __init__(self, config: Config | None = None, **options: object) -> None:
        self.config = config or self.Config(**options)
        self.data = Dataset(self.config.root)
        if self.data.spec is None:
            raise UserError(f"data set {self.config.root}", "does not say what robot recorded it", "one recorded by this project",
                            "record it with robot_io.dataset.Recorder, or play another")
        self.spec = self.data.spec
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin episode `seed`, counted around."""
        self.episode = self.data.episodes[seed % len(self.data.episodes)]
        cameras = self.spec.observation.cameras
        self._rgb = {camera.name: self.data.rgb(camera.name, self.episode) for camera in cameras}
        self._depth = {camera.name: self.data.depth(camera.name, self.episode) for camera in cameras if camera.depth}
        self._pose = {camera.name: self.data.camera_pose(camera.name, self.episode) for camera in cameras}
        inside = slice(self.episode.start, self.episode.stop)
        self._state, self._actions = self.data.column("observation.state")[inside], self.data.column("action")[inside]
        self._sent: list[np.ndarray] = []

    def observe(self) -> Observation:
        step = min(len(self._sent), self.episode.length - 1)
        frames = {name: CameraFrame(rgb[step], self._depth[name][step] if name in self._depth else None, self.data.intrinsics(name),
                                    None if self._pose[name] is None else self._pose[name][step]) for name, rgb in self._rgb.items()}
        return Observation(frames, self._state[step], self.episode.instruction, step / self.data.fps)

    def act(self, action: np.ndarray) -> None:
        self._sent.append(np.array(action, np.float32))

    def outcome(self) -> Outcome:
        done = len(self._sent) >= self.episode.length
        return Outcome(done, done and bool(self.differences().mean() < self.config.tolerance), False, len(self._sent))

    def differences(self) -> np.ndarray:
        """Mean difference of sent and recorded actions by dimension, as a share of its range: `float [A]`."""
        span = np.array(self.spec.action.high) - np.array(self.spec.action.low)
        sent = np.array(self._sent[: self.episode.length]).reshape(-1, self.spec.action.dim)
        return np.abs(sent - self._actions[: len(sent)]).mean(0) / span if len(sent) else np.zeros(self.spec.action.dim)

    def close(self) -> None:
        pass

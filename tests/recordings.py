"""Small recordings for the tests of data sets: two cameras of 24×32 px (one with depth and a pose), five steps an episode."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from robot_io import ActionSpec, CameraFrame, CameraSpec, Observation, ObservationSpec, RobotSpec
from robot_io.dataset import Recorder

HEIGHT, WIDTH, STEPS = 24, 32, 5
SPEC = RobotSpec(
    robot="toy",
    observation=ObservationSpec(
        cameras=(CameraSpec("front", HEIGHT, WIDTH, depth=True), CameraSpec("wrist", HEIGHT, WIDTH)),
        state=("x", "y", "z"), state_units=("m",) * 3,
    ),
    action=ActionSpec(
        names=("dx", "dy", "dz", "gripper"), units=("m", "m", "m", "1"), low=(-1.0,) * 4, high=(1.0,) * 4,
        modes=("delta", "delta", "delta", "absolute"), rate_hz=10.0, gripper=3,
    ),
)
INTRINSICS = np.array([[30, 0, 16], [0, 30, 12], [0, 0, 1]], np.float32)

Frame = tuple[Observation, np.ndarray]


def frame(seed: int, step: int) -> Frame:
    """What the toy robot sees and does at a step: a block that moves over a shaded table, a sloping depth."""
    random = np.random.default_rng([seed, step])
    down, right = np.mgrid[:HEIGHT, :WIDTH]
    rgb = np.stack([90 + 3 * down, 60 + 3 * right, 150 - 2 * down], axis=-1).astype(np.uint8)
    rgb[6:14, 2 * step : 2 * step + 8] = [220, 40, 60 + 20 * (seed % 5)]
    depth = (0.6 + 0.01 * down + 0.002 * right + 0.02 * random.random((HEIGHT, WIDTH))).astype(np.float32)
    pose = np.eye(4, dtype=np.float32)
    pose[:3, 3] = random.normal(size=3)
    cameras = {"front": CameraFrame(rgb, depth, INTRINSICS, pose), "wrist": CameraFrame(rgb[::-1].copy())}
    instruction = ("pick up the red cube", "open the drawer")[seed % 2]
    seen = Observation(cameras, random.normal(size=3).astype(np.float32), instruction, time=step / 10)
    return seen, random.normal(size=4).astype(np.float32)


def episode(seed: int, steps: int = STEPS) -> list[Frame]:
    return [frame(seed, step) for step in range(steps)]


def record(root: Path, seeds: range, *, codec: str = "h264", steps: int = STEPS, spec: RobotSpec = SPEC) -> Recorder:
    """Record one episode per seed; those whose seed is divisible by three fail."""
    recorder = Recorder(root, spec, codec=codec)
    for seed in seeds:
        for seen, action in episode(seed, steps):
            recorder.add(seen, action)
        recorder.save_episode(success=seed % 3 != 0)
    return recorder


def without_depth() -> RobotSpec:
    cameras = tuple(replace(camera, depth=False) for camera in SPEC.observation.cameras)
    return replace(SPEC, observation=replace(SPEC.observation, cameras=cameras))

"""Recording: frames a second into a LeRobotDataset, by this project's recorder and by LeRobot's, the same frames.

Ours also checks every frame, keeps a killed recording whole, and computes exact statistics; LeRobot writes each picture as a PNG
first, then encodes (its default av1; and h264, which is ours).
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.peer import Peer, pictures
from benchmarks.rounds import Measured, Ratio, cpu_seconds
from robot_io import CameraFrame, Observation, RobotSpec
from robot_io.dataset import Dataset, Recorder

ROUNDS = 3
WHAT = "frames a second (two 128 px cameras)"


def measure(data: Path, episodes: int, scratch: Path, peer: Peer) -> list[Measured | Ratio]:
    arrays = pictures(data, episodes, scratch / "frames.npz")
    spec = Dataset(data).spec
    cameras = tuple(replace(camera, depth=False) for camera in spec.observation.cameras)
    flat = replace(spec, observation=replace(spec.observation, cameras=cameras))
    count = len(arrays["action"])
    ours = [count / cpu_seconds(lambda: record(arrays, flat, scratch / "ours")) for _ in range(ROUNDS)]
    found: list[Measured | Ratio] = [Measured("recording", WHAT, "swapvla, h264", "frames_per_cpu_second", ours)]
    for codec in ("libsvtav1", "h264"):
        told = peer.ask("record", scratch / "frames.npz", scratch / f"lerobot-{codec}", codec, ROUNDS)
        if told is not None:
            theirs = told["frames_per_cpu_second"]
            found += [Measured("recording", WHAT, f"lerobot, {codec}", "frames_per_cpu_second", theirs),
                      Ratio("recording", f"{WHAT}: against {codec}", ours, theirs)]
    return found


def record(arrays: dict[str, np.ndarray], spec: RobotSpec, root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    recorder = Recorder(root, spec)
    for start, stop in arrays["bounds"]:
        for i in range(start, stop):
            cameras = {name: CameraFrame(arrays[f"rgb-{name}"][i]) for name in spec.observation.camera_names}
            recorder.add(Observation(cameras, arrays["state"][i], "pick"), arrays["action"][i])
        recorder.save_episode(success=True)
    recorder.finish()

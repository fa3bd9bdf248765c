"""What the codecs of `robot_io.dataset` cost and keep, beside LeRobot's default (av1) and ordinary 4:2:0 h264.

    python benchmarks/video_codecs.py        # writes docs/results/video_codecs.json; then: python -m vla.results

Pictures: both cameras of the tabletop robot while it moves at random, 128×128; one thread; CPU time; 5 rounds.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np

from robot_io.dataset.video import CODECS, Codec, VideoWriter, decode
from robot_io.tabletop.robot import TabletopRobot
from vla.results import Row, save_rows

OUT = Path("docs/results/video_codecs.json")
FRAMES, ROUNDS, FPS, SEED = 60, 5, 10, 0
CANDIDATES = {
    "h264 (default)": CODECS["h264"], "av1 (LeRobot's default)": CODECS["av1"], "lossless": CODECS["lossless"],
    "h264 at 4:2:0, for comparison": Codec("libx264", "yuv420p", "yuv420p", "h264", CODECS["h264"].options),
}


def pictures() -> dict[str, np.ndarray]:
    """`uint8 [FRAMES, H, W, 3]` by camera."""
    robot = TabletopRobot()
    robot.reset(SEED)
    random = np.random.default_rng(SEED)
    seen: dict[str, list] = {name: [] for name in robot.spec.observation.camera_names}
    for _ in range(FRAMES):
        for name, frame in robot.observe().cameras.items():
            seen[name].append(frame.rgb)
        move = np.zeros(robot.spec.action.dim, np.float32)
        move[:3] = random.normal(size=3) * 0.01
        robot.act(move)
    robot.close()
    return {name: np.stack(frames) for name, frames in seen.items()}


def measure(codec: Codec, frames: np.ndarray, path: Path) -> dict[str, float | None]:
    start = time.process_time()
    writer = VideoWriter(path, *frames.shape[1:3], FPS, codec)
    for frame in frames:
        writer.add(frame)
    writer.close()
    encoded = time.process_time()
    back = decode(path, np.arange(len(frames)) / FPS, FPS)
    decoded = time.process_time()
    error = np.mean((back.astype(float) - frames) ** 2)
    return {
        "psnr_db": float(10 * np.log10(255**2 / error)) if error else None,
        "bytes_per_frame": os.path.getsize(path) / len(frames),
        "encoded_per_second": len(frames) / (encoded - start), "decoded_per_second": len(frames) / (decoded - encoded),
    }


def rows_of(cell: dict[str, str], rounds: list[dict[str, float | None]]) -> list[Row]:
    rows = []
    for metric in rounds[0]:
        values = [one[metric] for one in rounds]
        mean = None if values[0] is None else float(np.mean(values))
        half = 0.0 if mean is None or np.ptp(values) == 0 else float(1.96 * np.std(values, ddof=1) / np.sqrt(len(values)))
        rows.append({"cell": cell, "metric": metric, "mean": mean, "low": None if mean is None else mean - half,
                     "high": None if mean is None else mean + half, "n": ROUNDS, "seeds": [SEED], "recipe": "",
                     "command": "python benchmarks/video_codecs.py"})
    return rows


def main() -> None:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for camera, frames in pictures().items():
            for name, codec in CANDIDATES.items():
                measure(codec, frames, Path(folder) / "warm.mp4")
                rounds = [measure(codec, frames, Path(folder) / "clip.mp4") for _ in range(ROUNDS)]
                rows += rows_of({"codec": name, "camera": camera}, rounds)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    save_rows(OUT, rows)


if __name__ == "__main__":
    main()

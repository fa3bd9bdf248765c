"""Does LeRobot agree with us? Run by hand: `python tests/interop/check_lerobot.py /tmp/lerobot_env/bin/python`.

It compares, frame by frame, what `lerobot==0.4.4` and `robot_io.dataset` return for (a) the data set in tests/fixtures that
LeRobot wrote, (b) data sets that we record in every codec, with depth, poses and statistics, and (c) the version 2.1
fixture, which LeRobot first converts to 3.0. It writes docs/results/lerobot.json; `python -m vla.results` then makes the
table of docs/datasets.md.

The scratch environment (once, some 6 GB; LeRobot's own pins exclude this project's torch):

    python3.11 -m venv /tmp/lerobot_env
    /tmp/lerobot_env/bin/pip install torch==2.9.1 torchvision==0.24.1 torchcodec==0.9.1
    /tmp/lerobot_env/bin/pip install --no-deps lerobot==0.4.4
    /tmp/lerobot_env/bin/pip install 'datasets>=4,<5' 'huggingface-hub>=0.34.2,<0.36' einops 'av>=15,<16' jsonlines \
        'packaging<26' draccus==0.10.0 gymnasium deepdiff 'imageio[ffmpeg]' termcolor opencv-python-headless pandas \
        pyserial safetensors accelerate requests 'diffusers<0.36'
    apt-get install ffmpeg          # torchcodec loads its libraries; or unpack them anywhere and set LD_LIBRARY_PATH

`--write-reference` stores LeRobot's answers for (a), from which tests/robot_io/test_dataset_lerobot.py works without LeRobot;
`--write-v21` makes the version 2.1 fixture again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robot_io import ActionSpec, CameraFrame, CameraSpec, Observation, ObservationSpec, RobotSpec
from robot_io.dataset import CODECS, Dataset, Recorder
from vla.results import Row, markdown, save_rows

HERE = Path(__file__).parent
FIXTURES = HERE.parent / "fixtures"
SAMPLE, SAMPLE_V21 = FIXTURES / "lerobot_v3_sample", FIXTURES / "lerobot_v21_sample"
OUT = HERE.parents[1] / "docs/results/lerobot.json"
BACKENDS = ("torchcodec", "pyav")
REFERENCE_FRAMES = [0, 1, 59, 60, 61, 119, 120, 605, 1139, 1199]


def ask_lerobot(python: str, *arguments: object) -> None:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [python, HERE / "lerobot_side.py", *map(str, arguments)],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def dump(python: str, root: Path, backend: str, scratch: Path) -> dict[str, np.ndarray]:
    # LeRobot must not write into a fixture, so it sees a copy.
    copy, out = scratch / "copy", scratch / "out.npz"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(root, copy)
    ask_lerobot(python, "dump", copy, out, backend)
    with np.load(out) as stored:
        return dict(stored)


def compare(data: Dataset, theirs: dict[str, np.ndarray]) -> dict[str, float | None]:
    """How many episodes' bounds, columns, instructions, statistics and pixels differ, and pixels by how much (of 255)."""
    columns = [key for key, feature in data.info["features"].items() if feature["dtype"] not in ("video", "image")]
    largest, differing, pixels = 0, 0, 0
    for camera, key in data._cameras.items():
        for episode in data.episodes:
            apart = np.abs(data.rgb(camera, episode).astype(int) - theirs[key][episode.start : episode.stop])
            largest, differing, pixels = max(largest, int(apart.max())), differing + int((apart > 0).sum()), pixels + apart.size
    ours = {f"stats/{key}/{name}": value for key, entry in (data.stats or {}).items() for name, value in entry.items()}
    bounds = zip(data.episodes, theirs["bounds"].tolist(), strict=True)
    return {
        "differing_episode_bounds": sum([episode.start, episode.stop] != bound for episode, bound in bounds),
        "differing_columns": sum(not np.array_equal(data.column(key), theirs[key]) for key in columns),
        "differing_instructions": sum(data.tasks[i] != t for i, t in zip(data.column("task_index"), theirs["task"], strict=True)),
        "differing_statistics": sum(not np.allclose(value, theirs[key]) for key, value in ours.items()) if ours else None,
        "differing_pixels_percent": 100 * differing / pixels, "largest_pixel_difference": largest,
    }


def rows_of(cell: dict[str, str], frames: int, found: dict[str, float | None]) -> list[Row]:
    return [{"cell": cell, "metric": metric, "mean": value, "low": value, "high": value, "n": frames, "seeds": [], "recipe": "",
             "command": "python tests/interop/check_lerobot.py /tmp/lerobot_env/bin/python"} for metric, value in found.items()]


def record(root: Path, codec: str) -> None:
    """A small data set with everything we can record: depth, poses, failures, two instructions."""
    spec = RobotSpec(
        "toy",
        ObservationSpec(
            (CameraSpec("front", 96, 128, depth=True), CameraSpec("wrist", 96, 128)), ("x", "y"), ("m", "m")
        ),
        ActionSpec(
            ("dx", "dy", "gripper"),
            ("m", "m", "1"),
            (-1.0,) * 3,
            (1.0,) * 3,
            ("delta", "delta", "absolute"),
            10.0,
            gripper=2,
        ),
    )
    random = np.random.default_rng(0)
    down, right = np.mgrid[:96, :128]
    recorder = Recorder(root, spec, codec=codec)
    for number in range(3):
        for step in range(70):
            rgb = np.stack([60 + down, 40 + right, 200 - down], -1).astype(np.uint8)
            rgb[20:40, 10 + step : 40 + step] = [220, 30, 40]
            depth = (0.5 + 0.004 * down + 0.001 * right + 0.01 * random.random(rgb.shape[:2])).astype(np.float32)
            front = CameraFrame(rgb, depth, np.diag([100.0, 100, 1]).astype(np.float32), np.eye(4, dtype=np.float32))
            seen = Observation(
                {"front": front, "wrist": CameraFrame(rgb[::-1])},
                random.normal(size=2).astype(np.float32),
                f"push the {'red' if number % 2 else 'green'} block",
            )
            recorder.add(seen, random.normal(size=3).astype(np.float32))
        recorder.save_episode(success=number != 1)
    recorder.finish()


def write_v21(root: Path, episodes: int = 3) -> None:
    """The first episodes of the sample in the version 2.1 layout; video packets are copied, not encoded again."""
    shutil.rmtree(root, ignore_errors=True)
    (root / "meta").mkdir(parents=True)
    data = Dataset(SAMPLE)
    info = {key: value for key, value in data.info.items() if not key.endswith("_size_in_mb")}
    keys = list(data._cameras.values())
    frames = sum(episode.length for episode in data.episodes[:episodes])
    info |= {
        "codebase_version": "v2.1",
        "total_episodes": episodes,
        "total_frames": frames,
        "total_videos": episodes * len(keys),
        "total_chunks": 1,
        "splits": {"train": f"0:{episodes}"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }
    (root / "meta/info.json").write_text(json.dumps(info, indent=4))
    table = pq.read_table(data.entries[0].data)
    lines: dict[str, list] = {
        "episodes": [],
        "tasks": [{"task_index": i, "task": task} for i, task in enumerate(data.tasks)],
        "episodes_stats": [],
    }
    described = pq.read_table(data.entries[0].meta).to_pylist()
    for episode in data.episodes[:episodes]:
        lines["episodes"].append(
            {"episode_index": episode.index, "tasks": [episode.instruction], "length": episode.length}
        )
        stats: dict[str, dict] = {}
        for name, value in described[episode.index].items():
            if name.startswith("stats/") and "/q" not in name:
                _, key, statistic = name.split("/")
                stats.setdefault(key, {})[statistic] = value
        lines["episodes_stats"].append({"episode_index": episode.index, "stats": stats})
        where = {"episode_chunk": 0, "episode_index": episode.index}
        path = root / info["data_path"].format(**where)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(table.slice(episode.start, episode.length)), path)
        for key in keys:
            path = root / info["video_path"].format(video_key=key, **where)
            path.parent.mkdir(parents=True, exist_ok=True)
            copy_clip(data.entries[episode.index].clips[key].path, path, episode.start, episode.length)
    for name, rows in lines.items():
        (root / f"meta/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def copy_clip(source: Path, target: Path, first: int, length: int) -> None:
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copied = new.add_stream_from_template(stream, opaque=True)
        packets = [packet for packet in old.demux(stream) if packet.size][first : first + length]
        offset = packets[0].pts
        for packet in packets:
            packet.pts, packet.dts, packet.stream = packet.pts - offset, packet.dts - offset, copied
            new.mux(packet)


def write_reference(theirs: dict[str, np.ndarray], path: Path) -> None:
    """LeRobot's own answers for a few frames, with every 16th pixel of their pictures."""
    reference = {
        "written_by": "lerobot==0.4.4, video_backend='torchcodec'",
        "bounds": theirs["bounds"].tolist(),
        "frames": REFERENCE_FRAMES,
        **{
            key: theirs[key][REFERENCE_FRAMES].tolist()
            for key in theirs
            if not key.startswith(("stats/", "observation.images.", "bounds"))
        },
        **{
            key: theirs[key][REFERENCE_FRAMES, ::16, ::16].tolist()
            for key in theirs
            if key.startswith("observation.images.")
        },
    }
    path.write_text(json.dumps(reference))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", help="an interpreter that has lerobot==0.4.4")
    parser.add_argument("--write-reference", action="store_true")
    parser.add_argument("--write-v21", action="store_true")
    arguments = parser.parse_args()
    if arguments.write_v21:
        write_v21(SAMPLE_V21)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        roots = {"written by LeRobot": SAMPLE}
        for codec in CODECS:
            roots[f"recorded by us, {codec}"] = scratch / codec
            record(scratch / codec, codec)
        for name, root in roots.items():
            for backend in BACKENDS:
                theirs, data = dump(arguments.python, root, backend, scratch), Dataset(root)
                rows += rows_of({"data set": name, "LeRobot decodes with": backend}, len(data), compare(data, theirs))
                if arguments.write_reference and root == SAMPLE and backend == "torchcodec":
                    write_reference(theirs, FIXTURES / "lerobot_v3_sample.reference.json")
        shutil.copytree(SAMPLE_V21, scratch / "v21")
        ask_lerobot(arguments.python, "convert", scratch, "v21")
        theirs, data = dump(arguments.python, scratch / "v21", "torchcodec", scratch), Dataset(SAMPLE_V21)
        rows += rows_of({"data set": "v2.1, converted by LeRobot", "LeRobot decodes with": "torchcodec"}, len(data),
                        compare(data, theirs))
    save_rows(OUT, rows)
    print(markdown(rows))


if __name__ == "__main__":
    main()

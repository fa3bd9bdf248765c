"""Where a LeRobotDataset keeps what: file names, `meta/info.json`, features, and the catalogue of episodes.

Version 3.0 (huggingface.co/docs/lerobot/lerobot-dataset-v3) packs any number of episodes into a parquet file of frames and
one mp4 per camera; version 2.1 writes one of each per episode. Both are read into the same `Catalogue`, so nothing
downstream knows which it was.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robot_io.errors import UserError
from robot_io.files import PART, write_text
from robot_io.specs import RobotSpec

INFO = "meta/info.json"
STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
SPEC = "meta/robot_spec.json"
NUMBERED = "chunk-{chunk_index:03d}/file-{file_index:03d}"
EPISODES = f"meta/episodes/{NUMBERED}.parquet"
DATA = f"data/{NUMBERED}.parquet"
VIDEO = f"videos/{{video_key}}/{NUMBERED}.mp4"
FILES_PER_CHUNK = 1000

IMAGES, DEPTH, POSE, STATE, ACTION = (
    "observation.images.", "observation.depth.", "observation.camera_pose.", "observation.state", "action")
REWARD, DONE, SUCCESS = "next.reward", "next.done", "next.success"


@dataclass(frozen=True)
class Episode:
    """One demonstration: frames `start` to `start + length` of the data set, and what was asked for.

    `success` is None where the data set does not say.
    """

    index: int
    start: int
    length: int
    instruction: str
    success: bool | None = None

    @property
    def stop(self) -> int:
        return self.start + self.length


@dataclass(frozen=True)
class Clip:
    """Where an episode's pictures begin inside a video file, in seconds."""

    path: Path
    start: float


@dataclass(frozen=True)
class Entry:
    """Where one episode lies: rows `row` to `row + length` of `data`, and a clip per video feature."""

    index: int
    start: int
    length: int
    tasks: tuple[str, ...]
    data: Path
    row: int
    meta: Path
    clips: dict[str, Clip] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.data, self.meta, *(clip.path for clip in self.clips.values()))


@dataclass(frozen=True)
class Catalogue:
    """Every episode of a data set in order, and the instructions that `task_index` counts."""

    tasks: list[str]
    entries: list[Entry]


def read_json(path: Path) -> Any:
    """The content of a JSON file, or a UserError that names it."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"data set file {path}", "missing", "a complete LeRobotDataset", "copy the data set again") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"data set file {path}", f"not valid JSON ({error})", "JSON", "copy the data set again") from None


def write_json(path: Path, content: Any) -> None:
    """Write so that readers see either the old file or the new one, never half of it."""
    write_text(path, json.dumps(content, indent=4, ensure_ascii=False, allow_nan=False))


def part_of(path: Path) -> Path:
    """The name under which `path` is written until it is complete."""
    return path.with_name(path.name + PART)


def new_part(path: Path) -> Path:
    """`part_of(path)`, in a folder that exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return part_of(path)


def read_info(root: Path) -> dict[str, Any]:
    """`meta/info.json`, once it is certain that `root` holds a data set with the keys that are needed."""
    if not (root / INFO).is_file():
        raise UserError(f"data set {root}", f"no {INFO} in it" if root.is_dir() else "no such folder",
                        "a LeRobotDataset v3.0 or v2.1", "give the folder that contains meta/, data/ and videos/")
    info = read_json(root / INFO)
    missing = {"codebase_version", "fps", "features", "total_episodes", "total_frames", "data_path"} - set(info)
    if missing:
        raise UserError(f"data set {root}", f"{INFO} lacks {', '.join(sorted(missing))}", "the keys of LeRobotDataset v3.0",
                        "write it again with a current version of LeRobot or of this project")
    return info


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Camera names by feature key: the last part of the key, or as much of the key as tells two cameras apart."""
    keys = list(keys)
    last = {key: key.rsplit(".", 1)[-1] for key in keys}
    count = Counter(last.values())
    return {(last[key] if count[last[key]] == 1 else key.removeprefix(IMAGES)): key for key in keys}


def camera_keys(info: dict[str, Any]) -> dict[str, str]:
    """Feature keys of the colour cameras by short name, in the order of `info.json`."""
    def is_colour(feature: dict[str, Any]) -> bool:
        details = feature.get("info") or feature.get("video_info") or {}
        return feature["dtype"] in ("video", "image") and not details.get("video.is_depth_map", False)

    return short_names(key for key, feature in info["features"].items() if is_colour(feature))


def features_of(spec: RobotSpec, fps: float, posed: Iterable[str], video: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The `features` table of a data set recorded from `spec`.

    Args:
        spec: the robot.
        fps: frames per second.
        posed: names of the cameras whose pose is recorded with every frame.
        video: `video.codec` and `video.pix_fmt` of the colour cameras.
    """
    def plain(dtype: str, size: int = 1, names: list[str] | None = None) -> dict[str, Any]:
        return {"dtype": dtype, "shape": [size], "names": names}

    features: dict[str, dict[str, Any]] = {}
    for camera in spec.observation.cameras:
        size = [camera.height, camera.width]
        features[IMAGES + camera.name] = {
            "dtype": "video", "shape": [*size, 3], "names": ["height", "width", "channels"],
            "info": {"video.height": size[0], "video.width": size[1], **video, "video.is_depth_map": False,
                     "video.fps": fps, "video.channels": 3, "has_audio": False},
        }
        if camera.depth:
            features[DEPTH + camera.name] = {"dtype": "uint16", "shape": size, "names": ["height", "width"]}
        if camera.name in posed:
            features[POSE + camera.name] = plain("float32", 16, [f"m{row}{column}" for row in range(4) for column in range(4)])
    if spec.observation.state:
        features[STATE] = plain("float32", len(spec.observation.state), list(spec.observation.state))
    features[ACTION] = plain("float32", spec.action.dim, list(spec.action.names))
    features |= {REWARD: plain("float32"), DONE: plain("bool"), SUCCESS: plain("bool"), "timestamp": plain("float32")}
    return features | {key: plain("int64") for key in ("frame_index", "episode_index", "index", "task_index")}


def new_info(spec: RobotSpec, features: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The first `info.json` of a data set recorded from `spec`: no episodes yet."""
    return {
        "codebase_version": "v3.0", "robot_type": spec.robot, "total_episodes": 0, "total_frames": 0, "total_tasks": 0,
        "chunks_size": FILES_PER_CHUNK, "data_files_size_in_mb": 100, "video_files_size_in_mb": 200,
        "fps": frames_per_second(spec), "splits": {}, "data_path": DATA, "video_path": VIDEO, "features": features,
    }


def frames_per_second(spec: RobotSpec) -> float:
    """The control rate, as an integer where it is one: LeRobot expects that."""
    rate = spec.action.rate_hz
    return int(rate) if float(rate).is_integer() else float(rate)

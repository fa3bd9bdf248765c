"""`Dataset`: reads a LeRobotDataset v3.0 or v2.1, this project's own or anybody's.

    data = Dataset("data/pick")
    for episode in data.episodes:
        actions = data.column("action")[episode.start:episode.stop]     # float32 [T, A]
        pictures = data.rgb("front", episode)                           # uint8 [T, H, W, 3]
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from robot_io.dataset import check, columns, v21, v30, video
from robot_io.dataset.layout import (
    DEPTH,
    POSE,
    SPEC,
    STATS,
    SUCCESS,
    Entry,
    Episode,
    camera_keys,
    read_info,
    read_json,
)
from robot_io.dataset.stats import Stats, from_json
from robot_io.errors import UserError, nearest
from robot_io.specs import RobotSpec, missing_camera

CATALOGUES = {"v3.0": v30.read_catalogue, "v2.1": v21.read_catalogue, "v2.0": v21.read_catalogue}


class Dataset:
    """A data set on disk. Opening it reads only `meta/`; frames are read when asked for.

    Attributes:
        root: its folder.
        info: `meta/info.json`.
        fps: frames per second.
        cameras: short names of the colour cameras.
        tasks: the instructions that column 'task_index' counts.
        spec: the robot's specification, or None where the data set was not recorded by this project (see `infer_spec`).
        entries: where each episode lies in the files.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.info: dict[str, Any] = read_info(self.root)
        version = self.info["codebase_version"]
        if version not in CATALOGUES:
            raise UserError(f"data set {root}", f"codebase_version '{version}'", f"one of {', '.join(CATALOGUES)}",
                            "convert it with LeRobot's own converter")
        self.fps: float = self.info["fps"]
        self._cameras = camera_keys(self.info)
        self.cameras: tuple[str, ...] = tuple(self._cameras)
        catalogue = CATALOGUES[version](self.root, self.info)
        self.tasks: list[str] = catalogue.tasks
        self.entries: list[Entry] = catalogue.entries
        self._side: dict[str, Any] | None = read_json(self.root / SPEC) if (self.root / SPEC).exists() else None
        self.spec: RobotSpec | None = RobotSpec.from_dict(self._side["spec"]) if self._side else None
        self._places = {entry.index: place for place, entry in enumerate(self.entries)}
        self._columns: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        """The number of frames."""
        return sum(entry.length for entry in self.entries)

    def __repr__(self) -> str:
        return f"Dataset('{self.root}': {len(self.entries)} episodes, {len(self)} frames, cameras {', '.join(self.cameras)})"

    @cached_property
    def episodes(self) -> list[Episode]:
        """Every episode; it is a success if column 'next.success', where there is one, ever says so."""
        success: list[bool | None] = [None] * len(self.entries)
        if SUCCESS in self.info["features"]:
            column = self.column(SUCCESS)
            success = [bool(column[entry.start : entry.start + entry.length].any()) for entry in self.entries]
        return [
            Episode(entry.index, entry.start, entry.length, entry.tasks[0] if entry.tasks else "", outcome)
            for entry, outcome in zip(self.entries, success, strict=True)
        ]

    @property
    def stats(self) -> dict[str, Stats] | None:
        """`meta/stats.json`, by feature; None where there is none (v2.1 keeps statistics per episode)."""
        path = self.root / STATS
        return from_json(read_json(path)) if path.exists() else None

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one frame of a feature, as `info.json` promises it."""
        features = self.info["features"]
        if name not in features:
            raise UserError(f"data set {self.root}", f"has no column '{name}'", f"one of its features: {nearest(name, features)}",
                            "name one of these")
        return tuple(features[name]["shape"])

    def column(self, name: str) -> np.ndarray:
        """A feature of every frame: `[frames]` for a scalar, else `[frames, *shape]`; kept in memory once read."""
        if name not in self._columns:
            shape = self.shape(name)
            if self.info["features"][name]["dtype"] in ("video", "image"):
                raise UserError(f"column '{name}'", "holds pictures", "numbers", "use Dataset.rgb(camera, episode)")
            parts = [self._array(path, name, shape) for path in dict.fromkeys(entry.data for entry in self.entries)]
            self._columns[name] = np.concatenate(parts) if parts else np.empty((0, *(() if shape == (1,) else shape)), np.float32)
        return self._columns[name]

    def rgb(self, camera: str, episode: Episode | int) -> np.ndarray:
        """The pictures of an episode, `uint8 [T, H, W, 3]`, decoded in one pass."""
        key, entry = self._camera_key(camera), self._entry(episode)
        if key in entry.clips:
            clip = entry.clips[key]
            stamps = self._array(entry.data, "timestamp", (1,), entry)
            return video.decode(clip.path, clip.start + stamps.astype(np.float64), self.fps)
        encoded = columns.read(entry.data, [key], (entry.row, entry.length))[key].to_pylist()
        return np.stack([_picture(value, key, entry, frame) for frame, value in enumerate(encoded)])

    def depth(self, camera: str, episode: Episode | int) -> np.ndarray | None:
        """Depth of an episode, `float32 [T, H, W]` metres, 0 where nothing was measured; None without a depth camera."""
        self._camera_key(camera)
        if (key := DEPTH + camera) not in self.info["features"]:
            return None
        entry = self._entry(episode)
        return self._array(entry.data, key, self.shape(key), entry).astype(np.float32) * np.float32(columns.DEPTH_UNIT)

    def intrinsics(self, camera: str) -> np.ndarray | None:
        """`float32 [3, 3]` pixels, or None where they were not recorded."""
        self._camera_key(camera)
        found = self._side["cameras"][camera]["intrinsics"] if self._side else None
        return None if found is None else np.array(found, np.float32)

    def camera_pose(self, camera: str, episode: Episode | int) -> np.ndarray | None:
        """`world_from_camera` of every frame, `float32 [T, 4, 4]`, or None where it was not recorded."""
        self._camera_key(camera)
        if (key := POSE + camera) not in self.info["features"]:
            return None
        entry = self._entry(episode)
        return self._array(entry.data, key, (4, 4), entry)

    def check(self, spec: RobotSpec | None = None, cameras: tuple[str, ...] = ()) -> None:
        """Refuse a data set that cannot be trained on, before anything is decoded.

        Args:
            spec: the robot it is to be used for.
            cameras: cameras that will be read.

        Raises:
            UserError: naming the file, or the episode and frame, and what is wrong with it.
        """
        check.check(self, spec, cameras)

    def picture_size(self, camera: str) -> tuple[int, int]:
        """Height and width of a camera's pictures, in pixels."""
        feature = self.info["features"][self._camera_key(camera)]
        channels_first = (feature.get("names") or [""])[0].startswith("channel")
        height, width = feature["shape"][1:] if channels_first else feature["shape"][:2]
        return height, width

    def _camera_key(self, camera: str) -> str:
        if camera not in self._cameras:
            raise missing_camera(camera, self.cameras, f"data set {self.root}")
        return self._cameras[camera]

    def _entry(self, episode: Episode | int) -> Entry:
        index = episode.index if isinstance(episode, Episode) else episode
        if index in self._places:
            return self.entries[self._places[index]]
        raise UserError(f"data set {self.root}", f"has no episode {index}", f"one of its {len(self.entries)} episodes",
                        "use Dataset.episodes")

    def _array(self, path: Path, name: str, shape: tuple[int, ...], entry: Entry | None = None) -> np.ndarray:
        rows = None if entry is None else (entry.row, entry.length)
        table = columns.read(path, [name], rows)
        try:
            return columns.to_numpy(table[name], shape)
        except (KeyError, ValueError) as error:
            raise UserError(f"data set file {path}", f"column '{name}' does not fit meta/info.json ({error})",
                            f"shape {shape} in every frame", "record or convert the data set again") from None


def _picture(value: dict[str, Any] | None, key: str, entry: Entry, frame: int) -> np.ndarray:
    if not value or not value.get("bytes"):
        raise UserError(f"data set file {entry.data}", f"no picture of '{key}' in episode {entry.index}, frame {frame}",
                        "PNG or JPEG bytes in the parquet file", "embed the pictures and write it again")
    return video.decode_image(value["bytes"])

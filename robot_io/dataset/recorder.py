"""`Recorder`: appends episodes to a LeRobotDataset v3.0, one at a time, each all or nothing.

Files are written under temporary names, renamed when the episode is saved, and `meta/info.json`, which says how many
episodes there are, is replaced last. A recording that is killed at any moment therefore holds every episode saved before;
the next `Recorder` on the same folder removes what was half-written and goes on. Nothing already recorded is touched.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robot_io.dataset import columns, v30
from robot_io.dataset.episode import EpisodeWriter
from robot_io.dataset.frame import check_frame
from robot_io.dataset.layout import (
    EPISODES,
    FILES_PER_CHUNK,
    INFO,
    POSE,
    SPEC,
    STATS,
    TASKS,
    Entry,
    features_of,
    frames_per_second,
    new_info,
    read_info,
    read_json,
    write_json,
)
from robot_io.dataset.reader import Dataset
from robot_io.dataset.stats import QUANTILES, Stats, describe, merge, to_json
from robot_io.dataset.video import CODECS, codec_named
from robot_io.errors import SpecMismatch, UserError
from robot_io.files import PART, replacing
from robot_io.specs import RobotSpec
from robot_io.types import Observation

INTRINSICS_TOLERANCE = 1e-3  # pixels


class Recorder:
    """Records demonstrations of one robot into one folder.

    Args:
        root: a new or empty folder, or one that a Recorder of the same spec has written.
        spec: the robot; its cameras (with depth where the spec says so), state and action are recorded.
        codec: of the pictures: `h264` (default), `av1` (LeRobot's default, smaller), `lossless` (bit-exact, larger).

    Raises:
        UserError: the folder holds something else, or data of another spec.
    """

    def __init__(self, root: str | Path, spec: RobotSpec, *, codec: str = "h264") -> None:
        self.root, self.spec, self._codec = Path(root), spec, codec
        codec_named(codec)
        self._side = self._open_side_file()
        self._info: dict[str, Any] | None = None
        self._tasks: list[str] = []
        self._stats: dict[str, Stats] = {}
        entries: list[Entry] = []
        if self._side is not None and (self.root / INFO).exists():
            self._info = read_info(self.root)
            catalogue = v30.read_catalogue(self.root, self._info)
            self._tasks, entries = catalogue.tasks, catalogue.entries
            for stats in v30.read_stats(entries):
                self._merge(stats)
        self._remove_leftovers(entries)
        self._next = 1 + max((_file_number(path) for entry in entries for path in entry.files), default=-1)
        self._episode: EpisodeWriter | None = None
        self._instructions: list[str] = []

    @property
    def episodes(self) -> int:
        """How many episodes are safe on disk."""
        return self._info["total_episodes"] if self._info else 0

    def add(self, observation: Observation, action: np.ndarray) -> None:
        """Record what was seen and the action taken on it, once per control step.

        Raises:
            UserError: the frame does not fit the spec; nothing of it is recorded.
        """
        posed = None
        if self._info is not None:
            posed = tuple(key.removeprefix(POSE) for key in self._info["features"] if key.startswith(POSE))
        check_frame(self.spec, observation, action, posed)
        self._check_intrinsics(observation)
        if self._info is None:
            self._start(observation)
        if self._episode is None:
            self._episode = EpisodeWriter(self.root, self._info, self._number, CODECS[self._codec])
        known = [*self._tasks, *(task for task in dict.fromkeys(self._instructions) if task not in self._tasks)]
        if observation.instruction not in known:
            known.append(observation.instruction)
        self._episode.add(observation, np.asarray(action, np.float32), known.index(observation.instruction))
        self._instructions.append(observation.instruction)

    def save_episode(self, success: bool) -> None:
        """Make the episode recorded since the last call permanent."""
        if self._episode is None:
            raise UserError("recorder", "an episode without frames", "at least one frame", "call add() before save_episode()")
        stats = self._episode.close(success)
        self._episode.publish()
        tasks = list(dict.fromkeys(self._instructions))
        self._tasks += [task for task in tasks if task not in self._tasks]
        self._replace_table(TASKS, columns.tasks_table(self._tasks))
        self._replace_table(EPISODES.format(**self._number), self._describe_episode(tasks, stats))
        self._merge(stats)
        write_json(self.root / STATS, to_json(self._stats))
        episodes = self._info["total_episodes"] + 1
        self._info |= {
            "total_episodes": episodes, "total_frames": self._info["total_frames"] + self._episode.length,
            "total_tasks": len(self._tasks), "splits": {"train": f"0:{episodes}"},
        }
        write_json(self.root / INFO, self._info)
        self._next += 1
        self._episode, self._instructions = None, []

    def discard_episode(self) -> None:
        """Forget the frames since the last saved episode."""
        if self._episode is not None:
            self._episode.abort()
        self._episode, self._instructions = None, []

    def finish(self) -> None:
        """Forget an unsaved episode and make the quantiles of `stats.json` exact. Recording may go on afterwards."""
        self.discard_episode()
        if not self.episodes:
            return
        data = Dataset(self.root)
        for key, feature in self._info["features"].items():
            if feature["dtype"] != "video" and len(feature["shape"]) == 1:
                exact = describe(data.column(key))
                self._stats[key] = {**self._stats[key], **{name: exact[name] for name in QUANTILES}}
        write_json(self.root / STATS, to_json(self._stats))

    def reopened(self) -> Recorder:
        """A recorder that goes on from what is on disk: to be used after this one has failed to save."""
        self.discard_episode()
        return Recorder(self.root, self.spec, codec=self._codec)

    @property
    def _number(self) -> dict[str, int]:
        """Chunk and file of the episode being recorded: each has files of its own."""
        chunk, file = divmod(self._next, FILES_PER_CHUNK)
        return {"chunk_index": chunk, "file_index": file}

    def _open_side_file(self) -> dict[str, Any] | None:
        """Our side file if this folder is ours, None if it is new."""
        if not (self.root / SPEC).exists():
            strangers = [path for path in self.root.rglob("*") if path.is_file() and path.suffix != PART]
            if strangers:
                raise UserError(f"folder {self.root}", "not empty and not recorded by this project",
                                "a new folder, or one to resume", "record into a new folder")
            return None
        side = read_json(self.root / SPEC)
        stored = RobotSpec.from_dict(side["spec"])
        if stored != self.spec:
            raise SpecMismatch(
                f"data set {self.root}", "recorded with another specification:\n  - "
                + "\n  - ".join(_unequal(stored.to_dict(), self.spec.to_dict())) + "\n",
                "the same robot, cameras and action space", "record into a new folder",
            )
        if side["codec"] != self._codec:
            raise UserError(f"data set {self.root}", f"its videos are '{side['codec']}'", f"'{self._codec}', as asked for",
                            f"resume with codec='{side['codec']}', or record into a new folder")
        return side

    def _start(self, observation: Observation) -> None:
        """Decide from the first frame which cameras have poses and intrinsics, and write the side file."""
        cameras = {name: observation.cameras[name] for name in self.spec.observation.camera_names}
        posed = [name for name, frame in cameras.items() if frame.world_from_camera is not None]
        self._side = {"spec": self.spec.to_dict(), "hash": self.spec.hash, "codec": self._codec, "cameras": {
            name: {"intrinsics": None if frame.intrinsics is None else np.asarray(frame.intrinsics, float).tolist()}
            for name, frame in cameras.items()
        }}
        write_json(self.root / SPEC, self._side)
        codec = CODECS[self._codec]
        stored = {"video.codec": codec.name, "video.pix_fmt": codec.stored}
        self._info = new_info(self.spec, features_of(self.spec, frames_per_second(self.spec), posed, stored))

    def _check_intrinsics(self, observation: Observation) -> None:
        if self._info is None:
            return
        for name, stored in self._side["cameras"].items():
            found, expected = observation.cameras[name].intrinsics, stored["intrinsics"]
            same = (found is None) == (expected is None)
            if not same or (found is not None and np.abs(found - np.array(expected)).max() > INTRINSICS_TOLERANCE):
                raise UserError(f"camera '{name}': intrinsics", f"{None if found is None else np.asarray(found).tolist()}",
                                f"{expected}, as in every earlier frame", "record another calibration into a new folder")

    def _describe_episode(self, tasks: list[str], stats: dict[str, Stats]) -> pa.Table:
        """The row of `meta/episodes`, with every column that LeRobot expects."""
        start, length = self._info["total_frames"], self._episode.length
        row: dict[str, Any] = {"episode_index": self._info["total_episodes"], "tasks": tasks, "length": length}
        row |= {f"data/{name}": value for name, value in self._number.items()}
        row |= {"dataset_from_index": start, "dataset_to_index": start + length}
        for key, feature in self._info["features"].items():
            if feature["dtype"] == "video":
                row |= {f"videos/{key}/{name}": value for name, value in self._number.items()}
                row |= {f"videos/{key}/from_timestamp": 0.0, f"videos/{key}/to_timestamp": length / self._info["fps"]}
        row |= v30.flatten(stats)
        row |= {f"meta/episodes/{name}": value for name, value in self._number.items()}
        return pa.Table.from_pylist([row])

    def _merge(self, stats: dict[str, Stats]) -> None:
        self._stats = {key: merge([self._stats[key], new]) if key in self._stats else new for key, new in stats.items()}

    def _replace_table(self, name: str, table: pa.Table) -> None:
        with replacing(self.root / name) as part:
            pq.write_table(table, part)

    def _remove_leftovers(self, entries: list[Entry]) -> None:
        """Delete temporary files, and files of an episode that was never completed."""
        kept = {path for entry in entries for path in entry.files}
        for folder in ("data", "videos", "meta"):
            for path in (self.root / folder).rglob("*"):
                orphan = re.search(r"chunk-\d+/file-\d+\.(parquet|mp4)$", path.as_posix()) and path not in kept
                if path.is_file() and (path.suffix == PART or orphan):
                    path.unlink()


def _file_number(path: Path) -> int:
    found = re.search(r"chunk-(\d+)/file-(\d+)\.", path.as_posix())
    return int(found[1]) * FILES_PER_CHUNK + int(found[2]) if found else -1


def _unequal(stored: dict[str, Any], given: dict[str, Any], prefix: str = "") -> list[str]:
    """One line for every leaf in which two specifications differ."""
    lines = []
    for key, value in stored.items():
        other = given[key]
        if isinstance(value, dict):
            lines += _unequal(value, other, f"{prefix}{key}.")
        elif value != other:
            lines.append(f"{prefix}{key}: the data set has {value}, this robot {other}")
    return lines

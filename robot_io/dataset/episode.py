"""One episode on its way to disk: pictures go to the encoders and rows to parquet as they come, under temporary names.

Memory stays bounded by a row group (64 frames) of depth. Nothing of it counts until `publish` has renamed the files and
the recorder has replaced `meta/info.json`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from robot_io.dataset import columns
from robot_io.dataset.layout import (
    ACTION,
    DEPTH,
    DONE,
    IMAGES,
    POSE,
    REWARD,
    STATE,
    SUCCESS,
    new_part,
    part_of,
)
from robot_io.dataset.stats import PixelHistogram, Stats, as_colour, describe
from robot_io.dataset.video import Codec, VideoWriter
from robot_io.types import Observation


class EpisodeWriter:
    """Writes one data file and one video per camera.

    Args:
        root: the data set.
        info: its `info.json`.
        number: `{"chunk_index", "file_index"}` of the files to write.
        codec: of the videos.
    """

    def __init__(self, root: Path, info: dict[str, Any], number: dict[str, int], codec: Codec) -> None:
        self.length = 0
        self._first = {"episode_index": info["total_episodes"], "index": info["total_frames"]}
        self._fps = info["fps"]
        self._pictures = {key: f for key, f in info["features"].items() if f["dtype"] == "video"}
        self._depths = [key for key in info["features"] if key.startswith(DEPTH)]
        self.files = {"data": root / info["data_path"].format(**number)}
        self.files |= {key: root / info["video_path"].format(video_key=key, **number) for key in self._pictures}
        self._schema = columns.schema_of(info["features"])
        self._rows: dict[str, list] = {key: [] for key in self._schema.names if key not in self._depths}
        self._waiting: dict[str, list] = {key: [] for key in self._depths}
        self._written = 0
        self._histograms = {key: PixelHistogram(3, 2**8) for key in self._pictures}
        self._histograms |= {key: PixelHistogram(1, 2**16) for key in self._depths}
        self._table = columns.data_writer(new_part(self.files["data"]), self._schema)
        self._videos = {key: VideoWriter(new_part(self.files[key]), *feature["shape"][:2], self._fps, codec)
                        for key, feature in self._pictures.items()}

    def add(self, observation: Observation, action: np.ndarray, task_index: int) -> None:
        """Take one frame that has been checked; rewards wait until the episode's end is known."""
        row = {
            ACTION: action, STATE: observation.state, "task_index": task_index, "frame_index": self.length,
            "timestamp": self.length / self._fps, REWARD: 0.0, DONE: False, SUCCESS: False,
            **{name: first + (self.length if name == "index" else 0) for name, first in self._first.items()},
        }
        for name, frame in observation.cameras.items():
            if IMAGES + name in self._videos:
                self._videos[IMAGES + name].add(frame.rgb)
                self._histograms[IMAGES + name].add(frame.rgb)
            if DEPTH + name in self._waiting:
                picture = columns.millimetres(frame.depth)
                self._waiting[DEPTH + name].append(picture)
                self._histograms[DEPTH + name].add(picture[..., None])
            if POSE + name in self._rows:
                row[POSE + name] = np.asarray(frame.world_from_camera, np.float32).reshape(16)
        for key, values in self._rows.items():
            values.append(row[key])
        self.length += 1
        if self.length - self._written > columns.ROWS_PER_GROUP:
            self._write_rows(self._written + columns.ROWS_PER_GROUP)

    def close(self, success: bool) -> dict[str, Stats]:
        """Finish every file under its temporary name; returns the episode's statistics by feature."""
        self._rows[REWARD][-1], self._rows[DONE][-1], self._rows[SUCCESS][-1] = float(success), True, bool(success)
        self._write_rows(self.length)
        self._table.close()
        for writer in self._videos.values():
            writer.close()
        stats = {key: as_colour(self._histograms[key].describe()) for key in self._pictures}
        stats |= {key: self._histograms[key].describe() for key in self._depths}
        return stats | {key: describe(self._array(key)) for key in self._rows}

    def publish(self) -> None:
        """Give the files their names. The data file comes last: videos without data harm nobody."""
        for path in reversed(self.files.values()):
            os.replace(part_of(path), path)

    def abort(self) -> None:
        """Give up: close and remove the temporary files."""
        for writer in (self._table, *self._videos.values()):
            with suppress(OSError):  # a full disk is no reason to keep them
                writer.close()
        for path in self.files.values():
            part_of(path).unlink(missing_ok=True)

    def _array(self, key: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        kind = self._schema.field(key).type
        if pa.types.is_fixed_size_list(kind):
            return np.stack(self._rows[key][start:stop]).astype(kind.value_type.to_pandas_dtype())
        return np.array(self._rows[key][start:stop], kind.to_pandas_dtype())

    def _write_rows(self, stop: int) -> None:
        """Write the rows up to `stop` as one row group."""
        arrays = []
        for key in self._schema.names:
            if key in self._waiting:
                count = stop - self._written
                arrays.append(columns.to_arrow(np.stack(self._waiting[key][:count])))
                del self._waiting[key][:count]
            else:
                arrays.append(columns.to_arrow(self._array(key, self._written, stop)))
        self._table.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._written = stop

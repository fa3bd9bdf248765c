"""Version 3.0: the catalogue out of `meta/tasks.parquet` and `meta/episodes/chunk-*/file-*.parquet`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from robot_io.dataset import columns
from robot_io.dataset.layout import TASKS, Catalogue, Clip, Entry
from robot_io.dataset.stats import Stats
from robot_io.errors import UserError


def read_catalogue(root: Path, info: dict[str, Any]) -> Catalogue:
    """The first `total_episodes` episodes; what lies behind them was left by an interrupted recording."""
    total = info["total_episodes"]
    tasks = read_tasks(root)
    rows = [(path, row) for path in episode_files(root) for row in _rows(path)]
    rows = sorted((pair for pair in rows if pair[1]["episode_index"] < total), key=lambda pair: pair[1]["episode_index"])
    if [row["episode_index"] for _, row in rows] != list(range(total)):
        raise UserError(f"data set {root}", f"meta/episodes describes {len(rows)} of its episodes",
                        f"{total}, as meta/info.json says", "copy the data set again")
    video_keys = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    first_row: dict[Path, int] = {}
    entries = []
    for path, row in rows:
        data = root / info["data_path"].format(chunk_index=row["data/chunk_index"], file_index=row["data/file_index"])
        start = row["dataset_from_index"]
        entries.append(Entry(
            index=row["episode_index"], start=start, length=row["length"], tasks=tuple(row["tasks"]), data=data,
            row=start - first_row.setdefault(data, start), meta=path,
            clips={key: _clip(root, info, row, key) for key in video_keys},
        ))
    return Catalogue(tasks, entries)


def episode_files(root: Path) -> list[Path]:
    return sorted((root / "meta/episodes").glob("*/*.parquet"))


def read_tasks(root: Path) -> list[str]:
    """Instructions in the order of `task_index`. Their column is the index of a pandas frame, whatever it is called."""
    table = columns.read(root / TASKS, None)
    text = [field.name for field in table.schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]
    if len(text) != 1 or "task_index" not in table.column_names:
        raise UserError(f"data set file {root / TASKS}", f"columns {', '.join(table.column_names)}",
                        "'task_index' and one column of text", "copy the data set again")
    numbered = zip(table["task_index"].to_pylist(), table[text[0]].to_pylist(), strict=True)
    return [task for _, task in sorted(numbered)]


def read_stats(entries: list[Entry]) -> list[dict[str, Stats]]:
    """The statistics of each episode, by feature."""
    found = []
    for path in dict.fromkeys(entry.meta for entry in entries):
        wanted = {entry.index for entry in entries if entry.meta == path}
        for row in columns.read(path, None).to_pylist():
            if row["episode_index"] in wanted:
                found.append(unflatten(row))
    return found


def flatten(stats: dict[str, Stats]) -> dict[str, list]:
    """As columns of the episodes table: `stats/FEATURE/NAME`."""
    return {f"stats/{key}/{name}": value.tolist() for key, entry in stats.items() for name, value in entry.items()}


def unflatten(row: dict[str, Any]) -> dict[str, Stats]:
    stats: dict[str, Stats] = {}
    for column, value in row.items():
        if column.startswith("stats/") and value is not None:
            _, key, name = column.split("/")
            stats.setdefault(key, {})[name] = np.asarray(value)
    return stats


def _rows(path: Path) -> list[dict[str, Any]]:
    wanted = [name for name in columns.count_rows(path)[1] if not name.startswith("stats/")]
    return columns.read(path, wanted).to_pylist()


def _clip(root: Path, info: dict[str, Any], row: dict[str, Any], key: str) -> Clip:
    prefix = f"videos/{key}/"
    try:
        name = info["video_path"].format(video_key=key, chunk_index=row[prefix + "chunk_index"],
                                         file_index=row[prefix + "file_index"])
        return Clip(root / name, row[prefix + "from_timestamp"])
    except KeyError:
        raise UserError(f"data set {root}", f"episode {row['episode_index']} names no video of '{key}'",
                        "one for every video feature of meta/info.json", "copy the data set again") from None

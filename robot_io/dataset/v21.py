"""Versions 2.1 and 2.0: one parquet and one mp4 per episode, the catalogue in JSON lines.

    data/chunk-000/episode_000000.parquet
    videos/chunk-000/observation.images.front/episode_000000.mp4
    meta/episodes.jsonl   {"episode_index": 0, "tasks": ["pick up the red cube"], "length": 60}
    meta/tasks.jsonl      {"task_index": 0, "task": "pick up the red cube"}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from robot_io.dataset.layout import FILES_PER_CHUNK, Catalogue, Clip, Entry
from robot_io.errors import UserError


def read_catalogue(root: Path, info: dict[str, Any]) -> Catalogue:
    """Every episode of a version 2 data set."""
    tasks = sorted(read_lines(root / "meta/tasks.jsonl"), key=lambda line: line["task_index"])
    lines = sorted(read_lines(root / "meta/episodes.jsonl"), key=lambda line: line["episode_index"])
    if len(lines) != info["total_episodes"]:
        raise UserError(f"data set {root}", f"meta/episodes.jsonl describes {len(lines)} episodes",
                        f"{info['total_episodes']}, as meta/info.json says", "copy the data set again")
    video_keys = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    entries, start = [], 0
    for line in lines:
        index = line["episode_index"]
        where = {"episode_chunk": index // info.get("chunks_size", FILES_PER_CHUNK), "episode_index": index}
        entries.append(Entry(
            index=index, start=start, length=line["length"], tasks=tuple(line["tasks"]),
            data=root / info["data_path"].format(**where), row=0, meta=root / "meta/episodes.jsonl",
            clips={key: Clip(root / info["video_path"].format(video_key=key, **where), 0.0) for key in video_keys},
        ))
        start += line["length"]
    return Catalogue([task["task"] for task in tasks], entries)


def read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except FileNotFoundError:
        raise UserError(f"data set file {path}", "missing", "a complete LeRobotDataset v2.1",
                        "copy the data set again") from None
    except json.JSONDecodeError as error:
        raise UserError(f"data set file {path}", f"not JSON lines ({error})", "one object a line",
                        "copy the data set again") from None

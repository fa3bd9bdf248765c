"""Text and JSON files, replaced in one piece (see `robot_io.files`), and names as parts of files'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from robot_io.files import write_text

__all__ = ["slug", "write_json", "write_text"]


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")


def slug(name: str) -> str:
    """A name as part of a file's: `5 distractors` → `5-distractors`."""
    return name.lower().replace(" ", "-")

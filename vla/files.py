"""Files are replaced in one piece: written under a temporary name beside the old one, then renamed over it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")


def slug(name: str) -> str:
    """A name as part of a file's: `5 distractors` → `5-distractors`."""
    return name.lower().replace(" ", "-")

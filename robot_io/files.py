"""Files are replaced in one piece: written under a temporary name beside the old one, then renamed over it; and where derived
files are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART = ".part"
"""How the name of a file ends while it is being written."""


def cache_folder() -> Path:
    """Whatever can be made again: `$SWAPVLA_CACHE` (or `$VLA_CACHE`, its older name), else `~/.cache/swapvla`."""
    chosen = os.environ.get("SWAPVLA_CACHE") or os.environ.get("VLA_CACHE") or "~/.cache/swapvla"
    return Path(chosen).expanduser()


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a name to write to; when the block ends without an error that file becomes `path`. Makes the folder if need be.

    Two processes may write the same path: the later one wins. What a kill leaves behind ends in `.part`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}{PART}")
    try:
        yield part
        os.replace(part, path)
    except Exception:
        part.unlink(missing_ok=True)
        raise


def write_text(path: Path | str, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")

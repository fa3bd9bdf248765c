"""Folders that are either complete or absent, and that notice when a byte of them has changed.

`sealing` writes into a temporary sibling, adds `digests.json` (SHA-256 of every file), flushes everything to disk and
renames; a kill at any moment leaves the old folder or the new one, never half of one (if it falls between the two renames
of a replacement, the next use puts the old one back). `check_seal` reads it back before anything is trusted. Policies,
checkpoints and caches are all such folders. One writer at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from robot_io import UserError

SEAL = "digests.json"
PARTIAL, OLD = ".partial", ".old"


@contextmanager
def sealing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write into; when the block ends without an error it becomes `folder`, replacing any former one."""
    _recover(folder)
    partial, old = partial_of(folder), _sibling(folder, OLD)
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    files = _files(partial)
    (partial / SEAL).write_text(json.dumps({str(f.relative_to(partial)): _digest(f) for f in files}, indent=1))
    for file in (*files, partial / SEAL):
        _flush(file)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    _flush(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def check_seal(folder: Path, thing: str) -> None:
    """Raise a `UserError` unless `folder` holds exactly what was sealed."""
    _recover(folder)
    remedy = "copy it again, or make it again"
    try:
        digests = json.loads((folder / SEAL).read_text())
    except (OSError, ValueError):
        found = f"'{SEAL}' cannot be read" if folder.is_dir() else "there is no such folder"
        raise UserError(f"{thing} {folder}", found, "a folder written by this project", "check the path" if not folder.is_dir()
                        else remedy) from None
    for name, digest in digests.items():
        file = folder / name
        if not file.is_file():
            raise UserError(f"{thing} {folder}", f"'{name}' is missing", "a complete folder", remedy)
        if _digest(file) != digest:
            raise UserError(f"{thing} {folder}", f"'{name}' is corrupted: not what was written", "an intact file", remedy)


def seal_of(folder: Path) -> bytes | None:
    """What changes when anything in `folder` does: its digests. None if there are none."""
    try:
        return (folder / SEAL).read_bytes()
    except OSError:
        return None


def partial_of(folder: Path) -> Path:
    """Where `sealing` is writing it, for other processes that write with it."""
    return _sibling(folder, PARTIAL)


def _sibling(folder: Path, ending: str) -> Path:
    return folder.with_name(f".{folder.name}{ending}")


def _recover(folder: Path) -> None:
    """A kill between the two renames of `sealing` leaves only the old folder, under its other name: put it back."""
    if not folder.exists() and _sibling(folder, OLD).exists():
        _sibling(folder, OLD).rename(folder)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

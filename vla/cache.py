"""A cache of folders that are pure functions of their key: built once, by one process, complete or absent.

Decoded frames and the features of frozen perception live here. A key must name all that decides the content, the digests
of the data and of the weights included; then nothing ever has to be invalidated, only deleted when disk is short.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from robot_io import UserError
from robot_io.files import cache_folder
from vla.sealed import SEAL, check_seal, sealing


def cache_root(chosen: Path | None) -> Path:
    """`data.cache` if given, else `robot_io.files.cache_folder()`."""
    return chosen.expanduser() if chosen else cache_folder()


def cached_folder(root: Path, key: str, build: Callable[[Path], None], *, verify: bool = False) -> Path:
    """The folder `root/key`, filled by `build(empty_folder)` if it is not there yet.

    A second process that wants the same key waits for the first; if that one dies, it builds anew.

    Args:
        verify: read it back first, and build it anew, with a warning, if it is not what was written.
    """
    folder = root / key
    root.mkdir(parents=True, exist_ok=True)
    with (root / f"{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go by the kernel, also after a kill
        present = (folder / SEAL).exists()
        if present and verify:
            try:
                check_seal(folder, "cache")
            except UserError as error:
                warnings.warn(f"{error}; making it again", stacklevel=2)
                present = False
        if not present:
            with sealing(folder) as partial:
                build(partial)
    return folder


def key_of(**parts: Any) -> str:
    """A short digest of JSON-able parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:20]


def files_digest(root: Path) -> str:
    """A digest of every file's name and content under `root`, hidden ones left out."""
    total = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")):
        with path.open("rb") as file:
            total.update(f"{path.relative_to(root)}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()[:20]


def weights_digest(module: nn.Module, *, trainable: bool = True) -> str:
    """A digest of a module's parameters and buffers; `trainable=False` leaves out what requires a gradient."""
    total = hashlib.sha256()
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    buffers = {name for name, _ in module.named_buffers()}
    for name, tensor in sorted(module.state_dict().items()):
        if trainable or name in frozen or name in buffers:
            total.update(name.encode())
            total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()[:20]


def open_arrays(folder: Path) -> dict[str, np.ndarray]:
    """Every `NAME.npy` of a folder, memory-mapped, read-only."""
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}

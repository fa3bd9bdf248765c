"""What the scripts that teach small models on rendered scenes share: arrays on disk, rendering into them, a learning rate, AUROC.

A set of arrays is described by `{name: (dtype, shape of one row)}` and stored as one memory-mapped `NAME.npy` each.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

Arrays = Mapping[str, tuple[Any, tuple[int, ...]]]
Row = Mapping[str, np.ndarray]
Rows = Callable[[int], Iterable[Row]]
"""`rows(start)` draws scenes from number `start` on, without end. It crosses to other processes, so it must be picklable."""


def open_arrays(folder: Path, arrays: Arrays, count: int | None = None) -> dict[str, np.ndarray]:
    """Memory-map the arrays: for reading, or for writing `count` rows."""
    if count is None:
        return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in arrays}
    folder.mkdir(parents=True, exist_ok=True)
    return {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (count, *shape))
        for name, (dtype, shape) in arrays.items()
    }


def render(folder: Path, arrays: Arrays, count: int, rows: Rows, *, workers: int, chunk: int) -> None:
    """Fill `folder` with `count` rows; a worker draws `chunk` of them before it reports."""
    open_arrays(folder, arrays, count)
    jobs = [(folder, tuple(arrays), start, min(start + chunk, count), rows) for start in range(0, count, chunk)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for _ in track(pool.imap_unordered(_render, jobs), "rendering", total=len(jobs)):
            pass


def _render(job: tuple[Path, tuple[str, ...], int, int, Rows]) -> int:
    folder, names, start, stop, rows = job
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in names}
    for i, row in zip(range(start, stop), rows(start), strict=False):
        for name, value in row.items():
            arrays[name][i] = value
    return stop - start


def rate(step: int, total: int, peak: float, *, warm: int) -> float:
    """Linear warm-up over `warm` steps, then cosine to 1 %."""
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * (step - warm) / max(1, total - warm))))


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Probability that a positive scores above a negative (Mann–Whitney); NaN if either is missing."""
    if not len(positive) or not len(negative):
        return float("nan")
    order = np.sort(negative)
    below, upto = np.searchsorted(order, positive), np.searchsorted(order, positive, "right")
    return float((below + upto).mean() / 2 / len(negative))

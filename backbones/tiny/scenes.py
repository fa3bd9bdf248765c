"""Rendered tabletop scenes with labels, to pretrain `tiny` on: `python -m backbones.tiny.scenes DIR --count 24000`.

Each scene is a random layout of 1–7 objects and a random arm pose (above, beside, around or holding an object), seen by both cameras.
Labels come from the simulator: which object each picture cell shows, where every object is, whether it is held.
Colour–shape pairs in `HELD_OUT` never appear, so that the model card can report what carries over to unseen pairs.

Arrays, memory-mapped `.npy`, n scenes, V = 2 views, N = 144 cells of the eye, M = 8 object slots:

    images   uint8   [n, V, 96, 96, 3]
    pixels   uint8   [n, V, M + 1, N]   pixels of each object in each cell (of 64); slot M is the robot
    depth    float16 [n, V, N]          metres, median over the cell
    kinds    uint8   [n, M, 2]          colour and shape index of each object; 255 where the slot is empty
    places   float32 [n, M, 3]          object centres, base frame, metres
    tool     float32 [n, 3]             tool centre point, base frame, metres
    held     bool    [n, M]
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.progress import track

from backbones.tiny.vision import CELLS, SIZE

VIEWS = ("front", "wrist")
SLOTS = 8
EMPTY = 255
N = CELLS * CELLS
HELD_OUT = (("green", "ball"), ("purple", "cube"), ("orange", "cylinder"))

ARRAYS = {
    "images": (np.uint8, (len(VIEWS), SIZE, SIZE, 3)),
    "pixels": (np.uint8, (len(VIEWS), SLOTS + 1, N)),
    "depth": (np.float16, (len(VIEWS), N)),
    "kinds": (np.uint8, (SLOTS, 2)),
    "places": (np.float32, (SLOTS, 3)),
    "tool": (np.float32, (3,)),
    "held": (np.bool_, (SLOTS,)),
}


def open_arrays(folder: Path, count: int | None = None) -> dict[str, np.ndarray]:
    """Memory-map the arrays: for reading, or for writing `count` scenes."""
    if count is None:
        return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
    folder.mkdir(parents=True, exist_ok=True)
    return {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (count, *shape))
        for name, (dtype, shape) in ARRAYS.items()
    }


def cells(mask: np.ndarray) -> np.ndarray:
    """Sum a `[96, 96]` array over each cell: `[N]`."""
    step = SIZE // CELLS
    return mask.reshape(CELLS, step, CELLS, step).sum((1, 3)).reshape(-1)

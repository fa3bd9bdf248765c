"""Rendered tabletop scenes with labels, to pretrain `tiny` on: `python -m backbones.tiny.scenes DIR --count 24000`.

Each scene is a random layout of 1–7 objects and a random arm pose (above, beside, around or holding an object), seen by both
cameras. Labels come from the simulator: which object each picture cell shows, where every object is, whether it is held.
Colour–shape pairs in `HELD_OUT` never appear unless asked for, so that the model card can report what carries over to them.

Arrays, memory-mapped `.npy`; n scenes, V = 2 views, N = 144 cells of the eye, M = 8 object slots:

    images   uint8   [n, V, 96, 96, 3]
    pixels   uint8   [n, V, M, N]   pixels of each object in each cell (of 64)
    depth    float16 [n, V, N]      metres, mean over the cell
    kinds    uint8   [n, M, 2]      colour and shape index of each object; 255 where the slot is empty
    places   float32 [n, M, 3]      object centres, base frame, metres
    tool     float32 [n, 3]         tool centre point, base frame, metres
    held     bool    [n, M]
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backbones.tiny.vision import CELLS, SIZE
from perception import teaching

if TYPE_CHECKING:
    from robot_io.tabletop.robot import TabletopRobot

VIEWS = ("front", "wrist")
SLOTS = 8
EMPTY = 255
N = CELLS * CELLS
RENDERED = 128
HELD_OUT = (("green", "ball"), ("purple", "cube"), ("orange", "cylinder"), ("red", "cross"))

ARRAYS = {
    "images": (np.uint8, (len(VIEWS), SIZE, SIZE, 3)),
    "pixels": (np.uint8, (len(VIEWS), SLOTS, N)),
    "depth": (np.float16, (len(VIEWS), N)),
    "kinds": (np.uint8, (SLOTS, 2)),
    "places": (np.float32, (SLOTS, 3)),
    "tool": (np.float32, (3,)),
    "held": (np.bool_, (SLOTS,)),
}
CHUNK = 200
"""Scenes a worker renders before it reports."""


def open_arrays(folder: Path, count: int | None = None) -> dict[str, np.ndarray]:
    """Memory-map the arrays: for reading, or for writing `count` scenes."""
    return teaching.open_arrays(folder, ARRAYS, count)


def cells(pixels: np.ndarray) -> np.ndarray:
    """Sum `[96, 96]` over each cell of 8×8: `[N]`."""
    step = SIZE // CELLS
    return pixels.reshape(CELLS, step, CELLS, step).sum((1, 3)).reshape(-1)


def shrink(image: np.ndarray) -> np.ndarray:
    """`uint8 [128, 128, 3]` → `uint8 [96, 96, 3]`, by the same filter as the eye's own."""
    import torch
    import torch.nn.functional as F

    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    small = F.interpolate(pixels, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
    return small.round().clamp(0, 255).byte()[0].permute(1, 2, 0).numpy()


def label(robot: TabletopRobot) -> dict[str, np.ndarray]:
    """One scene as it stands, as a row of every array."""
    from robot_io.tabletop.scene import COLORS, SHAPES

    colors, shapes = list(COLORS), list(SHAPES)
    row = {name: np.zeros(shape, dtype) for name, (dtype, shape) in ARRAYS.items()}
    row["kinds"][:] = EMPTY
    observation, masks = robot.observe(), robot.masks()
    nearest = np.floor((np.arange(SIZE) + 0.5) * RENDERED / SIZE).astype(int)
    for v, view in enumerate(VIEWS):
        frame = observation.cameras[view]
        mask, depth = (plane[np.ix_(nearest, nearest)] for plane in (masks[view], frame.depth))
        row["images"][v] = shrink(frame.rgb)
        row["depth"][v] = cells(np.minimum(depth, 3.0)) / (SIZE // CELLS) ** 2
        for m, thing in enumerate(robot.object_state()):
            row["pixels"][v, m] = cells(mask == thing.id)
    grasped = robot.grasped()
    row["tool"][:] = robot.tool()[0]
    for m, thing in enumerate(robot.object_state()):
        row["kinds"][m] = colors.index(thing.color), shapes.index(thing.shape)
        row["places"][m] = thing.position
        close = np.linalg.norm(thing.position - row["tool"]) < 0.03 and thing.height > 0.01
        row["held"][m] = grasped == m or close
    return row


def scenes(first_seed: int, held_out: bool) -> Iterator[dict[str, np.ndarray]]:
    """Labelled scenes without end. With `held_out` every scene shows a held-out pair, else none does."""
    from robot_io.tabletop.env import TabletopRobot
    from robot_io.tabletop.scene import COLORS, SHAPES

    look = {"colors": tuple(COLORS), "shapes": tuple(SHAPES)}
    tables = [{"distractors": 6, "bowls": 0}, {"distractors": 4, "bowls": 1}]
    robots = [TabletopRobot(image_size=RENDERED, task=look | table) for table in tables]
    for seed in itertools.count(first_seed):
        robot = robots[seed % len(robots)]
        robot.randomize(seed)
        if any((thing.color, thing.shape) in HELD_OUT for thing in robot.object_state()) == held_out:
            yield label(robot)


def _scenes_from(start: int, seed: int, held_out: bool) -> Iterator[dict[str, np.ndarray]]:
    import torch

    torch.set_num_threads(1)
    # Seeds of different jobs never meet: a job skips far fewer than 99 of 100 seeds.
    return scenes((seed * 1_000_000 + start) * 100, held_out)


def render(folder: Path, count: int, seed: int = 0, workers: int = 2, held_out: bool = False) -> None:
    """Render `count` scenes into `folder`."""
    teaching.render(folder, ARRAYS, count, partial(_scenes_from, seed=seed, held_out=held_out), workers=workers, chunk=CHUNK)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=24_000)
    parser.add_argument("--seed", type=int, default=0, help="scenes of different seeds never coincide")
    parser.add_argument("--held-out", action="store_true", help=f"scenes that each show one of {HELD_OUT}")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    render(options.folder, options.count, options.seed, options.workers, options.held_out)


if __name__ == "__main__":
    main()

"""Rendered scenes with depth and cameras, to train the small VGGT and the small eye on: `python -m perception.vggt.scenes DIR --count 6000`.

They are the grounder's (`perception.grounder.scenes`: what they show, what they never show, which surroundings are for exams), with the front
camera moved in half of them. Arrays, memory-mapped `.npy`; n scenes, V = 2 views, T = 16 slots of things:

    images      uint8   [n, V, 96, 96, 3]   of pictures of 128 pixels, resized as a policy resizes them
    depth       float16 [n, V, 96, 96]      metres along the optical axis
    ids         uint8   [n, V, 96, 96]      0 background, 1 … T things, ROBOT the robot
    names       <U32    [n, T]              what the thing with id 1 + t is called
    intrinsics  float32 [n, V, 3, 3]        of the small pictures
    poses       float32 [n, V, 4, 4]        base frame from camera (OpenCV)
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from perception import teaching
from perception.grounder.scenes import SLOTS, VIEWS, Look
from perception.grounder.scenes import label as label_things

if TYPE_CHECKING:
    from robot_io.tabletop.robot import TabletopRobot

SIZE, RENDERED = 96, 128
SHIFT = 0.06
"""Metres by which the front camera is elsewhere, at most, where it is moved."""
CHUNK = 500
TABLES = ((0, 1), (2, 0), (6, 1))
"""Distractors and bowls of the robots that scenes are drawn from."""

ARRAYS = {
    "images": (np.uint8, (len(VIEWS), SIZE, SIZE, 3)),
    "depth": (np.float16, (len(VIEWS), SIZE, SIZE)),
    "ids": (np.uint8, (len(VIEWS), SIZE, SIZE)),
    "names": (np.dtype("<U32"), (SLOTS,)),
    "intrinsics": (np.float32, (len(VIEWS), 3, 3)),
    "poses": (np.float32, (len(VIEWS), 4, 4)),
}


def open_arrays(folder: Path, count: int | None = None) -> dict[str, np.ndarray]:
    """Memory-map the arrays: for reading, or for writing `count` scenes."""
    return teaching.open_arrays(folder, ARRAYS, count)


def label(robot: TabletopRobot) -> dict[str, np.ndarray]:
    """One scene as it stands, as a row of every array."""
    import torch

    from perception.vggt.model import fitted

    things, frames = label_things(robot), [robot.observe().cameras[view] for view in VIEWS]
    at = ((np.arange(SIZE) + 0.5) * RENDERED / SIZE).astype(int)
    pixels = torch.from_numpy(things["images"]).permute(0, 3, 1, 2).float()
    small = fitted(pixels, SIZE, 8).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    scale = np.diag([SIZE / RENDERED, SIZE / RENDERED, 1.0])
    scale[:2, 2] = (SIZE / RENDERED - 1) / 2  # pixel centres are at whole numbers
    return {
        "images": small,
        "depth": np.stack([frame.depth[np.ix_(at, at)] for frame in frames]).astype(np.float16),
        "ids": things["ids"][:, at][:, :, at],
        "names": things["names"],
        "intrinsics": np.stack([scale @ frame.intrinsics for frame in frames]).astype(np.float32),
        "poses": np.stack([frame.world_from_camera for frame in frames]),
    }


def make_robots(look: Look) -> list[TabletopRobot]:
    """One robot per table, kind of surroundings, and with the front camera where it should be or not."""
    from robot_io.tabletop.env import TabletopRobot
    from robot_io.tabletop.objects import COLORS, NAMED

    task = {"pairs": look.pairs, "clutter": look.clutter, "colors": tuple(COLORS), "shapes": tuple(NAMED)}
    rooms = [{"background": "all", "background_split": look.background}, {"background": "lighting", "background_split": "train"}, {}]
    rooms = {"train": rooms, "test": rooms[:1], "plain": rooms[2:]}[look.background]
    return [TabletopRobot(image_size=RENDERED, task=task | {"distractors": distractors, "bowls": bowls}, camera_shift=shift, **room)
            for (distractors, bowls), room, shift in itertools.product(TABLES, rooms, (0.0, SHIFT))]


def scenes(first_seed: int, look: Look) -> Iterator[dict[str, np.ndarray]]:
    """Labelled scenes without end; a third of them as an episode starts."""
    robots = make_robots(look)
    for seed in itertools.count(first_seed):
        robot = robots[seed % len(robots)]
        (robot.reset if seed % 3 == 0 else robot.randomize)(seed)
        yield label(robot)


def _scenes_from(start: int, seed: int, look: Look) -> Iterator[dict[str, np.ndarray]]:
    import torch

    torch.set_num_threads(1)
    return scenes(seed * 1_000_000 + start, look)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=10, help="scenes of different seeds never coincide, here or with the grounder's")
    parser.add_argument("--background", choices=("train", "test", "plain"), default="train", help="surroundings")
    parser.add_argument("--pairs", choices=("seen", "held_out"), default="seen")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    look = Look(options.background, options.pairs)
    rows = partial(_scenes_from, seed=options.seed, look=look)
    teaching.render(options.folder, ARRAYS, options.count, rows, workers=options.workers, chunk=CHUNK)


if __name__ == "__main__":
    main()

"""Rendered triplets of picture, depth and instruction to train `mae` on: `python -m perception.lift3d.scenes DIR --count 2500`.

The tabletop with one to five objects and the arm anywhere, in the training split's surroundings; pairs of colour and shape that tests hold
out are never shown. Arrays, memory-mapped `.npy`; n scenes, V = 2 views:

    images   uint8   [n, V, 128, 128, 3]
    depth    float16 [n, V, 128, 128]      metres
    target   bool    [n, V, 128, 128]      the thing that the instruction is about: the affordance map, where there is no CLIP
    words    <U80    [n]                   the instruction
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from perception import teaching

VIEWS, SIZE = ("front", "wrist"), 128
DISTRACTORS = (0, 2, 4)
ARRAYS = {
    "images": (np.uint8, (len(VIEWS), SIZE, SIZE, 3)),
    "depth": (np.float16, (len(VIEWS), SIZE, SIZE)),
    "target": (np.bool_, (len(VIEWS), SIZE, SIZE)),
    "words": (np.dtype("<U80"), ()),
}


def scenes(start: int, seed: int) -> Iterator[dict[str, np.ndarray]]:
    """Rows without end, from scene `start` on."""
    from robot_io.tabletop.env import TabletopRobot

    rooms = ({}, {"background": "all", "background_split": "train"})
    robots = [TabletopRobot(image_size=SIZE, task={"distractors": count, "pairs": "seen"}, **room)
              for room in rooms for count in DISTRACTORS]
    for number in itertools.count(seed * 1_000_000 + start):
        robot = robots[number % len(robots)]
        (robot.reset if number % 3 == 0 else robot.randomize)(number)
        observation, masks = robot.observe(), robot.masks()
        target = next(thing.id for thing in robot.object_state() if thing.target)
        yield {
            "images": np.stack([observation.cameras[view].rgb for view in VIEWS]),
            "depth": np.stack([observation.cameras[view].depth for view in VIEWS]),
            "target": np.stack([masks[view] == target for view in VIEWS]),
            "words": np.array(observation.instruction),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=0, help="scenes of different seeds never coincide")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    teaching.render(options.folder, ARRAYS, options.count, partial(scenes, seed=options.seed), workers=options.workers, chunk=250)


if __name__ == "__main__":
    main()

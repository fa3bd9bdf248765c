"""Rendered scenes with instance masks, to train the grounder on: `python -m perception.grounder.scenes DIR --count 6000`.

A third of the scenes is what an episode starts from (the arm waits above the table); in the others the arm is anywhere, near
an object or holding one. Training scenes never show a colour–shape pair in `HELD_OUT`, an object of the `unseen` catalogue or a
background of the test split; exams (`--background test`, `--pairs held_out`, `--clutter unseen`) do.

Arrays, memory-mapped `.npy`; n scenes, V = 2 views, T = 16 ids:

    images  uint8 [n, V, 128, 128, 3]
    ids     uint8 [n, V, 128, 128]     0 background, 1 … T things, ROBOT the robot
    names   <U32  [n, T]               what the thing with id 1 + t is called ("red cube"), empty where there is none
    start   bool  [n]                  the arm is where an episode starts
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from perception import teaching

if TYPE_CHECKING:
    from robot_io.tabletop.robot import TabletopRobot

VIEWS = ("front", "wrist")
SIZE = 128
SLOTS = 16
ROBOT = 255
TABLES = ((0, 1), (2, 0), (4, 1), (6, 1), (7, 0))
"""Distractors and bowls of the robots that scenes are drawn from."""
CHUNK = 500
"""Scenes a worker renders before it reports."""

ARRAYS = {
    "images": (np.uint8, (len(VIEWS), SIZE, SIZE, 3)),
    "ids": (np.uint8, (len(VIEWS), SIZE, SIZE)),
    "names": (np.dtype("<U32"), (SLOTS,)),
    "start": (np.bool_, ()),
}


@dataclass(frozen=True)
class Look:
    """What scenes are drawn from: options of `TabletopRobot` and its `Task`, and `things`: `all` colours and shapes that have a name, or
    the `usual` ones, which are what a `Task` has if it names none."""

    background: str = "train"
    pairs: str = "seen"
    clutter: str = "named"
    things: str = "all"


def open_arrays(folder: Path, count: int | None = None) -> dict[str, np.ndarray]:
    """Memory-map the arrays: for reading, or for writing `count` scenes."""
    return teaching.open_arrays(folder, ARRAYS, count)


def label(robot: TabletopRobot) -> dict[str, np.ndarray]:
    """One scene as it stands, as a row of every array but `start`."""
    from robot_io.tabletop.robot import ROBOT_MASK

    observation, masks = robot.observe(), robot.masks()
    ids = np.stack([masks[view] for view in VIEWS])
    names = np.zeros(SLOTS, ARRAYS["names"][0])
    for thing in robot.object_state():
        names[thing.id - 1] = thing.name
    for i, bowl in enumerate(robot.layout.bowls):
        names[1 + robot.config.task.distractors + i] = f"{bowl.color} bowl"
    return {
        "images": np.stack([observation.cameras[view].rgb for view in VIEWS]),
        "ids": np.where(ids == ROBOT_MASK, ROBOT, ids).astype(np.uint8),
        "names": names,
    }


def make_robots(look: Look) -> list[TabletopRobot]:
    """One robot per table and kind of surroundings."""
    from robot_io.tabletop.env import TabletopRobot
    from robot_io.tabletop.objects import COLORS, NAMED

    task = {"pairs": look.pairs, "clutter": look.clutter}
    if look.things == "all":
        task |= {"colors": tuple(COLORS), "shapes": tuple(NAMED)}
    rooms = [{"background": "all", "background_split": look.background}]
    if look.background == "train":
        rooms += [{"background": "lighting", "background_split": "train", "vary_look": True}, {}]
    elif look.background == "plain":
        rooms = [{}]
    return [
        TabletopRobot(image_size=SIZE, task=task | {"distractors": distractors, "bowls": bowls}, **room)
        for room in rooms
        for distractors, bowls in TABLES
    ]


def scenes(first_seed: int, look: Look) -> Iterator[dict[str, np.ndarray]]:
    """Labelled scenes without end."""
    robots = make_robots(look)
    for seed in itertools.count(first_seed):
        robot, start = robots[seed % len(robots)], seed % 3 == 0
        (robot.reset if start else robot.randomize)(seed)
        yield label(robot) | {"start": np.array(start)}


def _scenes_from(start: int, seed: int, look: Look) -> Iterator[dict[str, np.ndarray]]:
    return scenes(seed * 1_000_000 + start, look)


def render(folder: Path, count: int, look: Look, seed: int = 0, workers: int = 2) -> None:
    """Render `count` scenes into `folder`."""
    teaching.render(folder, ARRAYS, count, partial(_scenes_from, seed=seed, look=look), workers=workers, chunk=CHUNK)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0, help="scenes of different seeds never coincide")
    parser.add_argument("--background", choices=("train", "test", "plain"), default="train", help="surroundings")
    parser.add_argument("--pairs", choices=("seen", "held_out"), default="seen")
    parser.add_argument("--clutter", choices=("named", "unseen"), default="named")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--things", choices=("all", "usual"), default="all")
    options = parser.parse_args()
    look = Look(options.background, options.pairs, options.clutter, options.things)
    render(options.folder, options.count, look, options.seed, options.workers)


if __name__ == "__main__":
    main()

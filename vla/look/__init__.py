"""Look through a policy's eyes: what each perception stage makes of an observation, as one sheet or as a film.

    look(open_eyes("runs/pick/policy"), from_robot(eyes.robot, seed=3), Path("sheet.png"))

`Eyes` are the front-ends alone, of a saved policy or of a recipe that nobody has trained yet. A stage is what one of
them left in the `Percept`; `vla.look.sheet` draws stages, `vla.look.film` writes a rollout for the rerun viewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from perception import PERCEPTION
from perception.percept import Batch, FrontEnd, Percept, raw
from robot_io import CameraFrame, Observation, UserError
from robot_io.dataset import Dataset
from vla.evaluate.drivers import make_robot
from vla.policy import Policy
from vla.recipe import Recipe, load_recipe


@dataclass(frozen=True)
class Eyes:
    """Front-ends and what they look through.

    Attributes:
        name: of the recipe.
        kinds: of the front-ends.
        front_ends: in order, ready to be called.
        cameras: the views, or None for all that an observation has.
        robot: configuration of the robot that the recipe names.
        policy: where they belong to a trained one.
    """

    name: str
    kinds: tuple[str, ...]
    front_ends: tuple[FrontEnd, ...]
    cameras: tuple[str, ...] | None
    robot: dict[str, Any]
    policy: Policy | None = None

    def batch(self, observation: Observation, memory: dict[str, Any]) -> Batch:
        """The observation as front-ends take it in an episode of which they keep `memory`."""
        return Batch.stack([observation], self.cameras or tuple(observation.cameras), memory=[memory])


@dataclass(frozen=True)
class Stage:
    """What was perceived once the front-end `kind` had looked."""

    kind: str
    percept: Percept


def open_eyes(source: str | Path, overrides: Sequence[str] = ()) -> Eyes:
    """The eyes of a policy folder, or of a recipe (preset or YAML file) with overrides by dotted path.

    Raises:
        UserError: neither, or an override that does not fit.
    """
    if Path(source).is_dir():
        policy = Policy.load(source, overrides=overrides)
        return _eyes(policy.recipe, tuple(policy.front_ends), policy.cameras, policy)
    recipe = load_recipe(source, list(overrides))
    front_ends = tuple(PERCEPTION.load(config.kind)(config).eval() for config in recipe.perception)
    for front_end in front_ends:
        front_end.load_pretrained()
    return _eyes(recipe, front_ends, recipe.data.cameras, None)


def _eyes(recipe: Recipe, front_ends: tuple[FrontEnd, ...], cameras: tuple[str, ...] | None, policy: Policy | None) -> Eyes:
    return Eyes(recipe.name, tuple(config.kind for config in recipe.perception), front_ends, cameras, recipe.robot, policy)


def from_robot(config: dict[str, Any], seed: int) -> Observation:
    """What a simulator's robot sees first in the scene of `seed`."""
    robot = make_robot(config)
    try:
        robot.reset(seed)
        return robot.observe()
    finally:
        robot.close()


def from_data(root: Path, frame: int) -> Observation:
    """Frame `frame` of a data set, counted through all episodes.

    Raises:
        UserError: no such data set, or fewer frames.
    """
    data = Dataset(root)
    if not 0 <= frame < len(data):
        raise UserError(f"frame {frame}", f"data set {root} has {len(data)} frames", f"0 to {len(data) - 1}", "name one of these")
    episode = next(e for e in data.episodes if e.start <= frame < e.stop)
    at = frame - episode.start

    def one(values: Any) -> Any:
        return None if values is None else values[at]

    cameras = {name: CameraFrame(data.rgb(name, episode)[at], one(data.depth(name, episode)), data.intrinsics(name),
                                 one(data.camera_pose(name, episode))) for name in data.cameras}
    state = data.column("observation.state")[frame] if "observation.state" in data.info["features"] else []
    return Observation(cameras, np.asarray(state, np.float32).reshape(-1), data.tasks[int(data.column("task_index")[frame])],
                       at / data.fps)


def stages(eyes: Eyes, batch: Batch) -> list[Stage]:
    """What the cameras saw, then what each front-end made of it."""
    percept = raw(batch)
    found = [Stage("cameras", percept)]
    with torch.inference_mode():
        for kind, front_end in zip(eyes.kinds, eyes.front_ends, strict=True):
            percept = front_end(batch, percept)
            found.append(Stage(kind, percept))
    return found


def look(eyes: Eyes, observation: Observation, out: Path) -> list[Stage]:
    """Draw the sheet of an observation into `out` (.png, .svg or .pdf); gives the stages that are on it."""
    from vla.look.sheet import draw_sheet

    batch = eyes.batch(observation, memory={})  # the first look of an episode
    found = stages(eyes, batch)
    draw_sheet(found, batch, f"{eyes.name}: “{observation.instruction}”", out)
    return found

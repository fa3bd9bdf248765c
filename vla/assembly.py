"""What a recipe's parts are built into for one robot, before weights: which cameras are looked at, what goes together, what does not.

Everything that cannot work is refused here, before any weight is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from backbones import BACKBONES
from backbones.context import Backbone, Inputs
from heads import HEADS
from heads.head import Head, Output
from heads.pairing import require_pairing
from perception import PERCEPTION
from perception.percept import FrontEnd
from robot_io import RobotSpec, UserError
from robot_io.errors import nearest
from vla.recipe import Recipe


def assemble(recipe: Recipe, spec: RobotSpec, assets: Mapping[str, Path] | None = None) -> tuple[RobotSpec, list[FrontEnd], Backbone, Head]:
    """The narrowed specification and the components, with random weights.

    Args:
        assets: folders of what the parts that keep any kept in a policy folder (`Backbone.save_assets`, `FrontEnd.save_assets`):
            "backbone", and "perception-0" for the first front-end.

    Raises:
        UserError: parts that do not go together; before any of them is built.
    """
    require_pairing(recipe.backbone.kind, recipe.head.kind)

    def kept(part: str) -> dict[str, Path]:
        return {"assets": assets[part]} if assets and part in assets else {}

    front_ends = [PERCEPTION.load(config.kind)(config, **kept(f"perception-{i}")) for i, config in enumerate(recipe.perception)]
    spec = _narrow(recipe, spec, front_ends)
    if any(front_end.abstains for front_end in front_ends):
        spec.hold(np.zeros(len(spec.observation.state), np.float32))  # refuses a robot that cannot be told to hold still
    camera, kind = spec.observation.cameras[0], recipe.backbone.kind
    for config, front_end in zip(recipe.perception, front_ends, strict=True):
        if front_end.hides_pictures and BACKBONES.load(kind).needs_pictures:
            raise UserError(f"front-end '{config.kind}'", f"it hides the pictures, and backbone '{kind}' needs them", "pictures, or "
                            "a backbone that does without, such as 'tiny'", "let the pictures through, or choose another backbone")
    backbone = BACKBONES.load(kind)(recipe.backbone, Inputs(
        views=len(spec.observation.cameras), image_size=(camera.height, camera.width),
        state_dim=len(state_index(recipe, spec)),
        token_dim=max((f.token_dim for f in front_ends if f.token_dim is not None), default=None),
    ), **kept("backbone"))
    head = HEADS.load(recipe.head.kind)(recipe.head, Output(
        horizon=recipe.horizon, action_dim=spec.action.dim, context_dim=backbone.dim, queries=backbone.queries))
    return spec, front_ends, backbone, head


def _narrow(recipe: Recipe, spec: RobotSpec, front_ends: Sequence[FrontEnd]) -> RobotSpec:
    """The robot as this policy sees it: only its cameras, and depth only if some front-end needs it."""
    if recipe.data.cameras is not None:
        spec = spec.with_cameras(recipe.data.cameras)
    if not spec.observation.cameras:
        raise UserError(f"robot '{spec.robot}'", "it has no camera", "at least one", "name some with data.cameras=[…]")
    estimated = next((i for i, f in enumerate(front_ends) if f.estimates_depth), len(front_ends))
    pairs = zip(recipe.perception[: estimated + 1], front_ends, strict=False)
    hungry = next((config.kind for config, f in pairs if f.needs_depth), None)
    for camera in spec.observation.cameras:
        if hungry and not camera.depth:
            raise UserError(f"camera '{camera.name}'", "it has no depth", f"depth, which '{hungry}' needs",
                            "use a depth camera, or put a depth estimator before it")
    cameras = tuple(replace(camera, depth=hungry is not None) for camera in spec.observation.cameras)
    return replace(spec, observation=replace(spec.observation, cameras=cameras))


def state_index(recipe: Recipe, spec: RobotSpec) -> list[int]:
    """Which entries of the robot's state the policy reads."""
    names, wanted = spec.observation.state, recipe.data.state
    if isinstance(wanted, bool):
        return list(range(len(names))) if wanted else []
    for name in wanted:
        if name not in names:
            raise UserError(f"state '{name}'", f"robot '{spec.robot}' does not measure it", "an entry of its state",
                            nearest(name, names))
    return [names.index(name) for name in wanted]

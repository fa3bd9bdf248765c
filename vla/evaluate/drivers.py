"""Whatever drives a robot, named by a string, so that a worker process can open it.

- a policy folder (`runs/pick/policy`): loaded here, on one thread; with other perception if overrides follow, each after a `#`
  (`runs/pick/policy#perception.0.detector={kind: oracle}`);
- a served policy (`ws://127.0.0.1:8000`): asked over the network;
- an address (`robot_io.tabletop.expert:Expert`): called with the robot. Experts and baselines of your own.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from robot_io import ROBOTS, RobotSpec, UserError
from robot_io.registry import load_address
from robot_io.robot import Driver, Simulator
from vla.overrides import explain
from vla.recipe import Evaluation, Recipe
from vla.sealed import SEAL, check_seal

if TYPE_CHECKING:
    from robot_io.client import PolicyClient

API_KEY = "VLA_API_KEY"
"""The environment variable with the key of a served policy."""


@dataclass(frozen=True)
class Source:
    """A driver that is not open yet.

    Attributes:
        name: the string that named it.
        hash: changes whenever its behaviour may: a digest of the folder's bytes or of the server's
            first message, or the address.
        recipe: hash of the recipe that made it; empty if no recipe did.
        execute: actions per chunk that its recipe carries out; None if it does not say.
        spec: the robot it was made for; None if it takes any.
        robot: configuration of the robot that its recipe names.
        evaluation: what its recipe says about trials.
    """

    name: str
    hash: str
    recipe: str = ""
    execute: int | None = None
    spec: RobotSpec | None = None
    robot: dict[str, Any] = field(default_factory=lambda: {"kind": "tabletop"})
    evaluation: Evaluation = field(default_factory=Evaluation)


def find(name: str | Path) -> Source:
    """Say what `name` names, without loading any weights.

    Raises:
        UserError: it is neither a policy folder, nor a server that answers, nor an address.
    """
    name = str(name)
    if name.startswith(("ws://", "wss://")):
        return _served(name)
    folder, *overrides = name.split("#")
    if Path(folder).is_dir():
        return _saved(Path(folder), overrides)
    if ":" in name:
        load_address(name)
        return Source(name, hash=name)
    raise UserError(f"policy '{name}'", "no such folder", "a policy folder, a ws:// address or module:Class",
                    "train one with `vla train`, or check the path")


def open_driver(source: Source, robot: Simulator) -> Driver:
    """The driver itself, ready to be asked."""
    if source.name.startswith(("ws://", "wss://")):
        return _connect(source.name)
    folder, *overrides = source.name.split("#")
    if Path(folder).is_dir():
        import torch

        from vla.policy import Policy

        torch.set_num_threads(1)
        return Policy.load(folder, overrides=overrides)
    return load_address(source.name)(robot)


def make_robot(config: dict[str, Any]) -> Simulator:
    """Build a simulator from `{"kind": …, **options}`."""
    try:
        settings = ROBOTS.configure(config)
    except ValidationError as error:
        raise explain(error, ROBOTS.load(config["kind"]).Config, f"robot '{config['kind']}'") from None
    return ROBOTS.load(settings.kind)(settings)


def preload() -> None:
    """Import triton, if it is there, before anything opens a GL context: the two bring LLVM twice and crash the other
    way round."""
    with contextlib.suppress(ImportError):
        importlib.import_module("triton")


def _saved(folder: Path, overrides: list[str]) -> Source:
    for part in ("recipe.yaml", "spec.json"):
        if not (folder / part).is_file():
            raise UserError(f"policy '{folder}'", f"has no {part}", "a folder written by `vla train` or Policy.save",
                            "point at the policy folder itself, e.g. runs/demo/policy")
    check_seal(folder, "policy")
    digest = hashlib.sha256((folder / SEAL).read_bytes()).hexdigest()[:12]
    recipe = Recipe.from_yaml(folder / "recipe.yaml")
    if overrides:
        from vla.folder import opened_otherwise  # brings torch

        recipe = opened_otherwise(recipe, overrides)
    spec = RobotSpec.from_dict(json.loads((folder / "spec.json").read_text()))
    return Source("#".join([str(folder), *overrides]), "#".join([digest, *overrides]), recipe.hash, recipe.execute, spec,
                  recipe.robot, recipe.evaluation)


def _connect(url: str) -> PolicyClient:
    from robot_io.client import PolicyClient

    return PolicyClient(url, api_key=os.environ.get(API_KEY))


def _served(url: str) -> Source:
    with _connect(url) as client:
        about = client.metadata
        digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:12]
        return Source(url, digest, str(about.get("recipe_hash", "")), about["execute"], client.spec)

"""Episodes of the toy robot, good and bad, and policies that imitated them, made once per session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vla.collect import collect
from vla.rl.recipe import RLRecipe, load_rl_recipe
from vla.train import train

ROBOT = {"kind": "toy_robot:ToyRobot", "limit": 12}
SMALL = ("critic.width=16", "critic.layers=1", "critic.heads=2", "optim.steps=8", "optim.batch_size=16", "optim.val_every=8",
         "optim.log_every=4", "optim.save_every=4", "optim.refresh=3")


@pytest.fixture(scope="session")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random walks: most fail."""
    root = tmp_path_factory.mktemp("rollouts") / "drunk"
    collect(ROBOT, root, episodes=8, seed0=100, policy="toy_robot:Drunk", progress=False)
    return root


@pytest.fixture(scope="session")
def imitated(toy_recipe: Callable, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`imitated("diffusion")`: the run of a policy with that head, trained for a few steps."""
    root = tmp_path_factory.mktemp("imitated")

    def run(head: str) -> Path:
        trunk = ("head.trunk={kind: fc, width: 16}",) if head == "regression" else ()
        recipe = toy_recipe(f"head.kind={head}", *trunk, "tuning.mode=lora", "tuning.vision=frozen", "train.steps=5",
                            "robot={kind: 'toy_robot:ToyRobot', limit: 12}")
        train(recipe, root / head, progress=False)
        return root / head

    return run


@pytest.fixture(scope="session")
def rl_recipe(imitated: Callable, demonstrations: Path, rollouts: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """`rl_recipe("co_rft", "regression", "optim.seed=1", …)`: a preset at its very smallest, on demonstrations and rollouts."""
    cache = tmp_path_factory.mktemp("rl_cache")

    def make(preset: str, head: str, *overrides: str) -> RLRecipe:
        early = () if preset in ("q_chunking", "n_step", "one_step_td") else ("algorithm.actor_after=2",)
        return load_rl_recipe(preset, [*SMALL, *early, f"data.cache={cache}", *overrides], data=[demonstrations, rollouts],
                              init=imitated(head))

    return make

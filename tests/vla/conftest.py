"""Demonstrations of the toy robot, recorded once per session, and the `toy` recipe that trains on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from toy_robot import Expert, ToyRobot

from robot_io.dataset import Recorder


def record(root: Path, episodes: int) -> None:
    robot = ToyRobot()
    expert, recorder = Expert(robot), Recorder(root, robot.spec)
    for seed in range(episodes):
        robot.reset(seed)
        while not robot.outcome().done:
            observation = robot.observe()
            action = expert.infer(observation).actions[0]
            recorder.add(observation, action)
            robot.act(action)
        recorder.save_episode(robot.outcome().success)
    recorder.finish()


@pytest.fixture(scope="session")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demonstrations") / "data"
    record(root, 8)
    return root


@pytest.fixture(scope="session")
def toy_recipe(demonstrations: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """`toy_recipe("head.kind=diffusion", …)`: the preset on these demonstrations, with overrides, at its very smallest."""
    from vla.recipe import load_recipe

    cache = tmp_path_factory.mktemp("cache")
    small = {"tokens": [], "regression": [], "diffusion": ["head.steps=5", "head.denoiser={width: 16, depth: 1, condition: 8}"]}

    def make(*overrides: str):
        kind = next((o.removeprefix("head.kind=") for o in overrides if o.startswith("head.kind=")), "tokens")
        return load_recipe("toy", [f"data.root={demonstrations}", f"data.cache={cache}", *small[kind], *overrides])

    return make

"""A policy folder that changes is served from then on; one that cannot be served changes nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toy_robot import ToyRobot

from robot_io.client import PolicyClient
from vla.data import Demonstrations
from vla.policy import Policy
from vla.serve import PolicyServer
from vla.serve.reload import reloading


def test_a_new_folder_is_served_on_the_same_connection(toy_recipe: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def build(*overrides: str) -> Policy:
        recipe = toy_recipe("head.kind=tokens", *overrides)
        data = Demonstrations(recipe)
        return Policy.build(recipe, data.spec, data.normalizer())

    robot, folder, tried = ToyRobot(), tmp_path / "policy", []
    robot.reset(3)
    old, new = build(), build("train.seed=1")
    old.save(folder)

    def load(path: Path) -> Policy:
        policy = Policy.load(path)
        tried.append(policy.recipe)
        return policy

    def until(done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not done():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    with PolicyServer(old, port=0) as server, reloading(server.service, {"toy": folder}, load, every=0.05), PolicyClient(server.url) as client:
        def asked() -> np.ndarray:
            client.reset(5)
            return client.infer(robot.observe()).actions

        socket, first = client._socket, asked()
        new.save(folder)
        until(lambda: server.service.policies["toy"] is not old)
        new.reset(5)
        assert np.array_equal(asked(), new.infer(robot.observe()).actions) and not np.array_equal(first, asked())
        with caplog.at_level(logging.ERROR, "vla.serve"):
            build("execute=1").save(folder)
            until(lambda: len(tried) == 2 and "stays as it is" in caplog.text)
            (folder / "model.safetensors").write_bytes(b"")
            (folder / "digests.json").write_text("{}")
            until(lambda: caplog.text.count("stays as it is") == 2)
        assert np.array_equal(asked(), new_actions(new, robot)) and client._socket is socket


def new_actions(policy: Policy, robot: ToyRobot) -> np.ndarray:
    policy.reset(5)
    return policy.infer(robot.observe()).actions

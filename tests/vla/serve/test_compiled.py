"""A compiled policy draws what it drew, for one robot and for several, and going on from a running chunk (which takes gradients)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from stirred import stir
from toy_robot import ToyRobot

from robot_io import Underway
from vla.data import Demonstrations
from vla.policy import Policy
from vla.serve.compiled import SIZES, compiled


def test_compiled_and_eager_draw_the_same(toy_recipe: Callable) -> None:
    recipe = toy_recipe("head={kind: flow, steps: 3}")
    data = Demonstrations(recipe)
    policy = Policy.build(recipe, data.spec, data.normalizer())
    stir(policy.head)
    robot = ToyRobot()
    robot.reset(3)
    seen, prefix = robot.observe(), Underway(np.full((3, 2), 0.1, np.float32), 1)
    asked = [{"observations": [seen] * size, "seed": list(range(size))} for size in (1, 4)]
    asked += [{"observations": [seen] * 2, "seed": [0, 1], "prefixes": [prefix, prefix]}]

    def drawn() -> list[np.ndarray]:
        return [chunk.actions for options in asked for chunk in policy.act(**options)]

    eager, frames = drawn(), torch._dynamo.utils.counters["frames"]
    compiled(policy)
    assert frames["ok"] >= len(SIZES)
    for one, other in zip(drawn(), eager, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)

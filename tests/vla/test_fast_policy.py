"""A policy with FAST tokens carries their tokenizer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from toy_robot import ToyRobot

from vla.policy import Policy
from vla.train import train


def test_the_tokenizer_is_trained_on_the_demonstrations_and_travels_with_the_policy(toy_recipe: Callable, tmp_path: Path):
    recipe = toy_recipe("head={kind: fast, width: 16, depth: 1, attention_heads: 2, vocabulary: 96, temperature: 1}", "train.steps=3")
    folder = train(recipe, tmp_path / "run", progress=False).policy_dir
    assert {path.name for path in (folder / "head").iterdir()} == {"processor_config.json", "tokenizer.json"}
    first, second = Policy.load(folder), Policy.load(folder)
    robot = ToyRobot()
    robot.reset(3)
    chunks = [policy.act([robot.observe()], n=2, seed=1) for policy in (first, second)]
    assert all(np.array_equal(a.actions, b.actions) for a, b in zip(*chunks, strict=True))
    assert chunks[0][0].actions.shape == (4, 2)

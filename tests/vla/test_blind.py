"""A blind policy acts on its state and the words: pictures change nothing, and it trains, is saved and loaded like any other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from toy_robot import ToyRobot

from robot_io import CameraFrame
from vla.policy import Policy
from vla.train import train


def test_it_acts_the_same_whatever_is_to_be_seen(toy_recipe, tmp_path: Path):
    recipe = toy_recipe("perception=[{kind: blind}]", "train.steps=4", "tuning.vision=frozen")
    policy = Policy.load(train(recipe, tmp_path / "run").policy_dir)
    robot = ToyRobot()
    robot.reset(3)
    seen = robot.observe()
    dark = replace(seen, cameras={name: CameraFrame(rgb=np.zeros_like(frame.rgb)) for name, frame in seen.cameras.items()})
    elsewhere = replace(seen, state=-seen.state + 0.3)
    chunks = []
    for observation in (seen, dark, elsewhere):
        policy.reset(seed=0)
        chunks.append(policy.infer(observation).actions)
    np.testing.assert_array_equal(chunks[0], chunks[1])
    assert np.abs(chunks[0] - chunks[2]).max() > 1e-4

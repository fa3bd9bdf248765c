"""A policy with FAST tokens carries their tokenizer, whoever speaks them: a decoder of the head's own, or OpenVLA's language model."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from toy_openvla import options, tokenizer_folder
from toy_robot import ToyRobot

from vla.policy import Policy
from vla.train import train

FILES = {"processor_config.json", "tokenizer.json"}


@pytest.mark.parametrize("kind", ["fast", "vocabulary_fast"])
def test_the_tokenizer_is_trained_on_the_demonstrations_and_travels_with_the_policy(toy_recipe: Callable, tmp_path: Path, kind: str):
    if kind == "fast":
        overrides = ["head={kind: fast, width: 16, depth: 1, attention_heads: 2, vocabulary: 96, temperature: 1}"]
    else:
        backbone = yaml.safe_dump({"kind": "openvla", **options(tokenizer_folder(tmp_path / "words"))}, default_flow_style=True)
        overrides = [f"backbone={backbone}", "head={kind: vocabulary_fast, vocabulary: 96, temperature: 1}", "data.state=false",
                     f"data.cameras=[{ToyRobot().spec.observation.camera_names[0]}]", "tuning.mode=lora", "tuning.vision=frozen"]
    folder = train(toy_recipe(*overrides, "train.steps=3"), tmp_path / "run", progress=False).policy_dir
    assert {path.name for path in (folder / "head").iterdir()} == FILES
    first, second = Policy.load(folder), Policy.load(folder)
    robot = ToyRobot()
    robot.reset(3)
    chunks = [policy.act([robot.observe()], n=2, seed=1) for policy in (first, second)]
    assert all(np.array_equal(a.actions, b.actions) for a, b in zip(*chunks, strict=True))
    assert chunks[0][0].actions.shape == (4, 2)

"""Policies that read: text instead of pictures, text beside other tokens, and the same after saving and loading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_robot import ToyRobot

from perception.percept import Batch
from robot_io import CameraFrame, Observation
from vla.data import Demonstrations
from vla.policy import Policy
from vla.train import train
from vla.train.features import Features

DOTS = "{kind: 'toy_grounding:Dots'}"
TEXT = "{kind: summary, captioner: {kind: template, positions: picture}}"
BLIND = "{kind: summary, captioner: {kind: template, positions: picture}, pictures: hidden}"


def observe(seed: int) -> Observation:
    robot = ToyRobot()
    robot.reset(seed)
    return robot.observe()


def noisy(observation: Observation, seed: int) -> Observation:
    """Other pixels everywhere but where dots are: the description stays."""
    grain = np.random.default_rng(seed).integers(0, 12, (32, 32, 3))
    return replace(observation, cameras={name: CameraFrame((frame.rgb * 0.9 + grain).astype(np.uint8)) for name, frame in observation.cameras.items()})


def build(recipe) -> Policy:
    data = Demonstrations(recipe)
    return Policy.build(recipe, data.spec, data.normalizer())


@torch.no_grad()
def read(policy: Policy, observation: Observation) -> torch.Tensor:
    """What the head gets to see."""
    return policy.context(Batch.stack([observation], policy.cameras)).readout


def test_a_policy_that_only_reads_knows_the_words_and_nothing_else(toy_recipe: Callable):
    beside, blind = (build(toy_recipe(f"perception=[{DOTS}, {text}]")) for text in (TEXT, BLIND))
    one, same, other = observe(1), noisy(observe(1), 0), replace(observe(3), state=observe(1).state, instruction=observe(1).instruction)
    assert torch.equal(read(blind, one), read(blind, same)) and not torch.equal(read(beside, one), read(beside, same))
    assert not torch.equal(read(blind, one), read(blind, other)), "dots elsewhere are other words"


@pytest.mark.parametrize("perception", [
    f"[{DOTS}, {TEXT}, {{kind: 'toy_front_end:Brightness'}}]",
    f"[{DOTS}, {{kind: 'toy_front_end:Brightness'}}, {{kind: masking}}, {BLIND}]",
    f"[{{kind: 'toy_grounding:Says'}}, {DOTS}, {TEXT}, {{kind: 'toy_front_end:Brightness'}}, {{kind: shift}}]",
])
@pytest.mark.parametrize("head", ["tokens", "diffusion"])
def test_text_goes_with_tokens_and_masks_in_any_list(toy_recipe: Callable, tmp_path: Path, perception: str, head: str):
    policy = build(toy_recipe(f"head.kind={head}", f"perception={perception}"))
    policy.save(tmp_path / "policy")
    loaded = Policy.load(tmp_path / "policy")
    assert torch.equal(read(policy, observe(2)), read(loaded, observe(2))) and len(loaded.front_ends) == perception.count("kind") - perception.count("captioner")


def test_captions_are_made_once_and_trained_on(toy_recipe: Callable, tmp_path: Path):
    recipe = toy_recipe(f"perception=[{DOTS}, {TEXT}]", "tuning.vision=frozen", "train.steps=3")
    policy, data = build(recipe), Demonstrations(recipe)
    cached = Features(policy, data, lambda items, description: items)
    assert len(cached.views[0].text) == len(data.actions) and all(text.startswith("a red dot ") for text in cached.views[0].text)
    assert train(recipe, tmp_path / "run").steps == 3

"""OpenVLA inside a policy: a recipe trains a step with LoRA, saves, and samples the same bits where its tokenizer is gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shutil import rmtree

import numpy as np
import pytest
import torch
import yaml
from toy_openvla import options, tokenizer_folder
from toy_robot import ToyRobot

from vla.data import Demonstrations
from vla.policy import Policy

STEPS = 2


@pytest.mark.parametrize("kind, head", [
    ("openvla", {"kind": "vocabulary", "constrained": True}),
    ("openvla_oft", {"kind": "vocabulary_parallel", "constrained": True}),
    ("openvla_oft", {"kind": "regression", "trunk": {"kind": "oft"}}),
], ids=["vocabulary", "parallel", "regression"])
def test_it_trains_saves_loads_and_samples_the_same_bits(toy_recipe: Callable, tmp_path: Path, kind: str, head: dict):
    actions = ToyRobot().spec.action.dim
    queries = {"queries": STEPS * actions} if kind == "openvla_oft" else {}
    backbone = {"kind": kind, **options(tokenizer_folder(tmp_path / "words")), **queries}
    recipe = toy_recipe(
        f"backbone={yaml.safe_dump(backbone, default_flow_style=True)}", f"head={yaml.safe_dump(head, default_flow_style=True)}",
        f"data.cameras=[{ToyRobot().spec.observation.camera_names[0]}]", f"data.state={str(kind != 'openvla').lower()}",
        f"horizon={STEPS}", f"execute={STEPS}", "tuning.mode=lora", "tuning.vision=frozen")
    data = Demonstrations(recipe)
    policy = Policy.build(recipe, data.spec, data.normalizer()).train()
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=0.01)
    samples = data.columns(data.order(0)[:4], "cpu")
    batch = data.open_frames(lambda items, _: items).add_to(samples.batch, data.order(0)[:4])
    losses = []
    for _ in range(6):
        loss = policy.loss(batch, samples.actions, samples.valid).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    policy.eval().save(tmp_path / "policy")
    rmtree(tmp_path / "words")
    robot = ToyRobot()
    robot.reset(3)
    chunks = [p.infer(robot.observe()).actions for p in (policy, Policy.load(tmp_path / "policy"))]
    assert chunks[0].shape == (STEPS, actions)
    assert np.array_equal(*chunks)

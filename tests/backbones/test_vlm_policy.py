"""A whole policy on `kind: vlm`: built from a checkpoint, saved, and loaded where the checkpoint is no more."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_vlms import save_checkpoint
from toy_robot import ToyRobot

from vla.normalize import Normalizer
from vla.policy import Policy
from vla.recipe import load_recipe

HEAD = ["head.bins=32", "horizon=4", "execute=2"]


def policy(checkpoint: Path, *overrides: str) -> Policy:
    backbone = f"backbone={{kind: vlm, checkpoint: {checkpoint}, dtype: float32, queries: 2}}"
    recipe = load_recipe("toy", [backbone, *HEAD, *overrides])
    random = np.random.default_rng(0)
    spec = ToyRobot().spec
    normalizer = Normalizer.measure(spec, *(random.uniform(-1, 1, (50, 2)).astype(np.float32) for _ in range(2)))
    return Policy.build(recipe, spec, normalizer)


@pytest.mark.parametrize(("name", "overrides"), [
    ("paligemma", ()),
    ("qwen3_vl", ("tuning.mode=lora", "tuning.vision=frozen")),
    ("florence2", ("tuning.mode=lora", "tuning.vision=lora")),
], ids=["paligemma full", "qwen3_vl lora", "florence2 lora everywhere"])
def test_a_saved_policy_needs_no_checkpoint(tmp_path: Path, name: str, overrides: tuple[str, ...]):
    save_checkpoint(name, tmp_path / "checkpoint")
    made = policy(tmp_path / "checkpoint", *overrides)
    with torch.no_grad():
        for parameter in made.parameters():  # as training would leave it
            if parameter.requires_grad:
                parameter.add_(0.01 * torch.randn_like(parameter))
    robot = ToyRobot()
    robot.reset(0)
    before = made.act([robot.observe()], seed=3)
    made.save(tmp_path / "policy")
    shutil.rmtree(tmp_path / "checkpoint")
    after = Policy.load(tmp_path / "policy").act([robot.observe()], seed=3)
    assert all(np.array_equal(a.actions, b.actions) for a, b in zip(before, after, strict=True))
    kept = {file.name for file in (tmp_path / "policy" / "backbone").iterdir()}
    assert {"config.json", "tokenizer.json"} <= kept and not any(name.endswith((".safetensors", ".bin")) for name in kept)


def test_it_learns(tmp_path: Path):
    """LoRA on the trunk and the new parts bring the loss of a few samples down."""
    from perception.percept import Batch

    save_checkpoint("smolvlm", tmp_path)
    made = policy(tmp_path, "tuning.mode=lora", "tuning.vision=frozen").train()
    robot, observations = ToyRobot(), []
    for seed in range(4):
        robot.reset(seed)
        observations.append(robot.observe())
    batch = Batch.stack(observations, made.cameras)
    actions = torch.linspace(-0.1, 0.1, 4)[:, None, None].expand(4, 4, 2)
    optimizer = torch.optim.Adam([p for p in made.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(12):
        loss = made.loss(batch, actions, torch.ones(4, 4, dtype=torch.bool)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]

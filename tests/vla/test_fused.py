"""VO-DP as a policy: a frozen VGGT and DINOv2 before a trained fuser, cached, trained, saved, loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_robot import ToyRobot
from toy_vggt import write_vggt

from vla.cache import weights_digest
from vla.data import Demonstrations
from vla.policy import Policy
from vla.train import train
from vla.train.features import Features, reach

USES = {"both": "own", "semantic": "own", "geometric": "null"}


@pytest.fixture
def recipe(toy_recipe: Callable, tmp_path: Path) -> Callable:
    vggt = write_vggt(tmp_path / "vggt")

    def make(use: str = "both", *overrides: str, pictures: bool = False):
        maker = f"{{kind: vggt_dino, geometry: {vggt}, semantics: {USES[use]}, dim: 16, pictures: {str(pictures).lower()}}}"
        return toy_recipe(f"perception=[{maker}, {{kind: fuser, dim: 16, heads: 2, out: 8, use: {use}}}]", "tuning.vision=frozen",
                          "train.feature_dtype=float32", "train.batch_size=4", *overrides)

    return make


@pytest.mark.parametrize("use", list(USES))
@pytest.mark.parametrize("head", ["tokens", "diffusion"])
def test_a_fused_policy_is_trained_saved_and_loaded_with_the_same_bits(recipe: Callable, tmp_path: Path, use: str, head: str):
    made = recipe(use, f"head.kind={head}", "train.steps=2", "train.learning_rate=0.03")
    data = Demonstrations(made)
    fresh = Policy.build(made, data.spec, data.normalizer())
    policy = Policy.load(train(made, tmp_path / "run", progress=False).policy_dir)
    frozen, fuser = policy.front_ends
    assert weights_digest(frozen) == weights_digest(fresh.front_ends[0])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(frozen.parameters(), fresh.front_ends[0].parameters(), strict=True))
    assert weights_digest(fuser) != weights_digest(fresh.front_ends[1])
    robot = ToyRobot()
    robot.reset(1)
    policy.save(tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").stat().st_size < 4 * sum(p.numel() for p in policy.parameters())
    chunks = [each.act([robot.observe()], seed=3)[0].actions for each in (policy, Policy.load(tmp_path / "again"))]
    assert np.array_equal(*chunks) and chunks[0].shape == (4, 2)


@pytest.mark.parametrize("pictures", [False, True])
def test_what_is_frozen_is_cached_and_trains_the_same(recipe: Callable, pictures: bool):
    data = Demonstrations(recipe(pictures=pictures))
    policy = Policy.build(data.recipe, data.spec, data.normalizer())
    assert reach(policy) == "features"
    index = np.array([3, 9])
    samples, frames = data.columns(index, "cpu"), data.open_frames(lambda items, _: items)
    cached = Features(policy, data, lambda items, _: items).percept(index, policy.device)
    assert (cached.features is not None) == pictures and set(cached.maps) == {"semantic", "geometric"}
    torch.manual_seed(0)
    computed = policy.loss(frames.add_to(samples.batch, index), samples.actions, samples.valid).total
    torch.manual_seed(0)
    torch.testing.assert_close(policy.loss(samples.batch, samples.actions, samples.valid, cached).total, computed, atol=1e-4, rtol=1e-4)


def test_the_policy_acts_on_what_the_networks_see_and_on_nothing_else(recipe: Callable):
    data = Demonstrations(recipe())
    policy = Policy.build(data.recipe, data.spec, data.normalizer())
    frames, index = data.open_frames(lambda items, _: items), np.array([0, 20])
    batch = frames.add_to(data.columns(index, "cpu").batch, index)
    percept = policy.perceive(batch)
    assert percept.images is None and percept.tokens.shape == (2, 2, 8)
    assert not torch.equal(percept.tokens[0], percept.tokens[1])
    with torch.no_grad():
        for parameter in policy.plain_backbone.eye.parameters():
            parameter.zero_()
        torch.testing.assert_close(policy.context(batch).readout, policy.context(batch, percept).readout)


def test_a_summary_beside_fused_tokens_is_one_more_list(recipe: Callable, tmp_path: Path):
    """Three front-ends, of which the last is trained, as one policy."""
    made = recipe(pictures=True)
    maker, fuser = (part.model_dump(mode="json") for part in made.perception)
    parts = [maker | {"depth": True}, {"kind": "summary", "captioner": {"kind": "template"}}, fuser]  # which wants depth
    made = type(made).from_dict(made.to_dict() | {"perception": parts, "train": made.to_dict()["train"] | {"steps": 2}})
    policy = Policy.load(train(made, tmp_path / "run", progress=False).policy_dir)
    data = Demonstrations(made)
    frames, index = data.open_frames(lambda items, _: items), np.array([0, 20])
    percept = policy.perceive(frames.add_to(data.columns(index, "cpu").batch, index))
    assert all(percept.text) and percept.tokens.shape == (2, 2, 8) and percept.images is not None
    robot = ToyRobot()
    robot.reset(1)
    assert policy.infer(robot.observe()).actions.shape == (4, 2)


def test_the_published_comparison_is_of_one_front_end_under_regimes_that_there_are():
    from robot_io.tabletop.regimes import REGIMES
    from vla.grids.fusion import fusion
    from vla.grids.shifts import SHIFTS

    grid = fusion()
    seen = {cell.label: grid.resolve(cell, 0).perception for cell in grid.cells}
    assert set(SHIFTS) <= REGIMES.keys()
    assert [seen[name][-1].use for name in list(seen)[:3]] == ["both", "semantic", "geometric"]
    assert not any(list(seen.values())[3:])

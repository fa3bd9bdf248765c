"""The composition at toy size: every head with every tuning trains a step, is saved, loaded, and samples the same bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_robot import ToyRobot

from perception import PERCEPTION
from robot_io import CameraFrame, Observation, UserError
from robot_io.specs import require_compatible
from vla.best_of import best_of
from vla.data import Demonstrations
from vla.evaluate.drivers import find, open_driver
from vla.policy import Policy
from vla.sealed import SEAL, sealing

LORA = ("tuning.mode=lora", "tuning.vision=frozen")


def observe(seed: int = 3) -> Observation:
    robot = ToyRobot()
    robot.reset(seed)
    return robot.observe()


def trained(recipe, steps: int = 2) -> Policy:
    """A policy after a few large optimizer steps, so that none of its weights is what it was made with."""
    data = Demonstrations(recipe)
    policy = Policy.build(recipe, data.spec, data.normalizer()).train()
    frames = data.open_frames(lambda items, _: items)
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=0.03)
    for step in range(steps):
        samples = data.columns(data.order(step), "cpu")
        loss = policy.loss(frames.add_to(samples.batch, data.order(step)), samples.actions, samples.valid)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    return policy.eval()


@pytest.fixture(scope="module")
def policy(toy_recipe: Callable) -> Policy:
    return trained(toy_recipe("head.kind=diffusion"))


@pytest.mark.parametrize("tuning", [(), LORA], ids=["full", "lora"])
@pytest.mark.parametrize("head", ["tokens", "diffusion"])
def test_the_full_product_saves_loads_and_samples_the_same_bits(toy_recipe: Callable, tmp_path: Path, head: str, tuning: tuple):
    random = ["head.temperature=1"] if head == "tokens" else []
    policy = trained(toy_recipe(f"head.kind={head}", *random, *tuning))
    policy.save(tmp_path / "policy")
    loaded = Policy.load(tmp_path / "policy")
    observations = [observe(1), observe(2)]
    for ours, theirs in zip(policy.act(observations, n=2, seed=5), loaded.act(observations, n=2, seed=5), strict=True):
        assert np.array_equal(ours.actions, theirs.actions)
        assert ours.actions.shape == (4, 2)
    assert loaded.recipe == policy.recipe
    assert loaded.spec == policy.spec
    assert (tmp_path / "policy" / "adapter").exists() == bool(tuning)
    for (name, ours), theirs in zip(policy.named_parameters(), loaded.parameters(), strict=True):
        assert ours.requires_grad == theirs.requires_grad, name


def test_noise_depends_on_the_reset_and_the_call_alone(policy: Policy):
    observation = observe()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    policy.reset(seed=7)
    first, second = policy.infer(observation).actions, policy.infer(observation).actions
    assert torch.equal(before, torch.get_rng_state())
    assert not np.array_equal(first, second)
    torch.rand(3)
    policy.reset(seed=7)
    assert np.array_equal(policy.infer(observation).actions, first)
    assert np.array_equal(policy.infer(observation).actions, second)
    policy.reset(seed=8)
    assert not np.array_equal(policy.infer(observation).actions, first)


def test_acting_leaves_the_training_mode_as_it_was(policy: Policy):
    policy.train()
    policy.infer(observe())
    assert policy.training
    policy.eval()


def test_chunks_carry_the_spec_and_the_time(policy: Policy):
    chunk = policy.infer(replace(observe(), time=2.5))
    assert chunk.spec == ToyRobot().spec.action
    assert chunk.time == 2.5
    assert chunk.actions.dtype == np.float32


def test_a_policy_drives_the_robot_that_it_was_trained_for_and_no_other(policy: Policy):
    require_compatible(policy.spec, ToyRobot().spec)
    with pytest.raises(UserError, match="rate_hz"):
        require_compatible(policy.spec, ToyRobot(rate_hz=20.0).spec)


def shrunk(frame: CameraFrame) -> CameraFrame:
    return CameraFrame(frame.rgb[::2, ::2])


@pytest.mark.parametrize(("change", "words"), [
    (lambda o: replace(o, cameras={"front": o.cameras["front"]}), "camera 'wrist'"),
    (lambda o: replace(o, cameras={**o.cameras, "wrist": shrunk(o.cameras["wrist"])}), "camera 'wrist'.*16x16.*32x32"),
    (lambda o: replace(o, state=o.state[:1]), "state.*x, y"),
    (lambda o: replace(o, state=np.array([0, np.nan], np.float32)), "'y' is nan"),
])
def test_an_observation_that_does_not_fit_is_refused(policy: Policy, change: Callable, words: str):
    with pytest.raises(UserError, match=words):
        policy.infer(change(observe()))


def test_a_policy_reads_only_the_state_it_asked_for(toy_recipe: Callable):
    policy = trained(toy_recipe("data.state=[y]"))
    observation = observe()

    def act(state: list[float]) -> np.ndarray:
        return policy.act([replace(observation, state=np.array(state, np.float32))], seed=0)[0].actions

    assert np.array_equal(act([0.0, 0.5]), act([0.9, 0.5]))


def test_cameras_are_those_of_the_recipe_in_its_order(toy_recipe: Callable):
    policy = trained(toy_recipe("data.cameras=[wrist]"))
    assert policy.cameras == ("wrist",)
    observation = observe()
    only = replace(observation, cameras={"wrist": observation.cameras["wrist"]})
    assert np.array_equal(policy.act([only], seed=0)[0].actions, policy.act([observation], seed=0)[0].actions)


def test_a_front_end_that_needs_depth_refuses_a_robot_without(toy_recipe: Callable, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(PERCEPTION._addresses, "nearness", "toy_front_end:Nearness")
    recipe = toy_recipe("perception=[{kind: nearness}]")
    data = Demonstrations(recipe)
    with pytest.raises(UserError, match=r"camera 'front'.*no depth.*'nearness' needs"):
        Policy.build(recipe, data.spec, data.normalizer())


def test_a_truncated_policy_is_refused(policy: Policy, tmp_path: Path):
    policy.save(tmp_path / "policy")
    weights = tmp_path / "policy" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"model\.safetensors.*corrupted"):
        Policy.load(tmp_path / "policy")


def test_no_weight_is_skipped_in_silence(policy: Policy, tmp_path: Path):
    policy.save(tmp_path / "policy")
    tensors = load_file(tmp_path / "policy" / "model.safetensors")
    renamed = sorted(tensors)[0]
    tensors["stranger"] = tensors.pop(renamed)
    with sealing(tmp_path / "other") as folder:
        for path in (tmp_path / "policy").iterdir():
            if path.name != SEAL:
                (folder / path.name).write_bytes(path.read_bytes())
        save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError, match="'stranger' belongs nowhere") as error:
        Policy.load(tmp_path / "other")
    assert f"'{renamed}' is missing" in str(error.value)


def test_not_a_policy_at_all(tmp_path: Path):
    with pytest.raises(UserError, match="no such folder"):
        Policy.load(tmp_path / "nowhere")


@pytest.fixture
def doubter(toy_recipe: Callable, monkeypatch: pytest.MonkeyPatch) -> Policy:
    monkeypatch.setitem(PERCEPTION._addresses, "doubter", "toy_front_end:Doubter")
    recipe = toy_recipe("perception=[{kind: doubter}]")
    data = Demonstrations(recipe)
    return Policy.build(recipe, data.spec, data.normalizer())


def dark(observation: Observation) -> Observation:
    cameras = {name: CameraFrame(np.zeros_like(frame.rgb)) for name, frame in observation.cameras.items()}
    return replace(observation, cameras=cameras)


def test_where_perception_abstains_the_robot_holds_still(doubter: Policy):
    seen = observe()
    seen = replace(seen, cameras={n: CameraFrame(np.maximum(f.rgb, 1)) for n, f in seen.cameras.items()})
    acted, held = doubter.act([seen, dark(seen)], seed=0)
    assert np.array_equal(held.actions, np.zeros((4, 2)))
    assert np.abs(acted.actions).sum() > 0


def test_every_session_has_an_episode_of_its_own(doubter: Policy):
    one, other = doubter.session(), doubter.session()
    first = one.infer(observe())
    one.infer(observe())
    assert np.array_equal(other.infer(observe()).actions, first.actions)
    assert (one.memory["looks"], other.memory["looks"]) == (2, 1)
    one.reset()
    assert one.memory == {}


def test_abstaining_is_refused_on_a_robot_that_cannot_be_told_to_hold_still(doubter: Policy):
    action = replace(doubter.spec.action, modes=("absolute", "absolute"), names=("elbow", "knee"))
    data = Demonstrations(doubter.recipe)
    with pytest.raises(UserError, match=r"'elbow' is absolute and its state has no 'elbow'"):
        Policy.build(doubter.recipe, replace(doubter.spec, action=action), data.normalizer())


def test_a_saved_policy_may_be_opened_with_other_perception_but_nothing_else(doubter: Policy, tmp_path: Path):
    doubter.save(tmp_path / "policy")
    plain = Policy.load(tmp_path / "policy", overrides=["perception=[]"])
    assert len(plain.front_ends) == 0
    assert not np.array_equal(plain.act([observe()], seed=0)[0].actions, doubter.act([observe()], seed=0)[0].actions)
    for other in ("horizon=2", "head.bins=16"):
        with pytest.raises(UserError, match=r"changes what was trained.*head\.temperature"):
            Policy.load(tmp_path / "policy", overrides=[other])
    source = find(f"{tmp_path / 'policy'}#perception=[]")
    assert source.recipe == plain.recipe.hash != doubter.recipe.hash
    assert len(open_driver(source, ToyRobot()).front_ends) == 0


def test_a_saved_policy_may_be_opened_with_a_head_that_samples_otherwise(policy: Policy, tmp_path: Path):
    policy.save(tmp_path / "policy")
    quick = open_driver(find(f"{tmp_path / 'policy'}#head.steps=1"), ToyRobot())
    assert (quick.head.config.steps, policy.head.config.steps) == (1, 5)
    for (name, ours), theirs in zip(policy.named_parameters(), quick.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    assert not np.array_equal(quick.act([observe()], seed=0)[0].actions, policy.act([observe()], seed=0)[0].actions)


def test_the_best_of_several_draws_is_one_of_them(policy: Policy, tmp_path: Path):
    policy.save(tmp_path / "policy")
    drawn = np.stack([chunk.actions for chunk in policy.act([observe()], n=6, seed=3)])
    chooser = best_of(Policy.load(tmp_path / "policy"), 6, lambda context, actions: actions[..., 0].mean(2))
    chosen = chooser.act([observe()], seed=3)[0].actions
    np.testing.assert_array_equal(chosen, drawn[drawn[..., 0].mean(1).argmax()])
    assert chooser.takes_prefix
    with pytest.raises(UserError, match="after loading"):
        chooser.save(tmp_path / "chooser")

"""Depth from the recording to a front-end's tokens, computed at every step or once and cached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_robot import SIZE, ToyRobot

from perception import PERCEPTION
from robot_io import CameraFrame, CameraSpec, Observation, RobotSpec, UserError
from robot_io.dataset import Recorder
from vla.data import Demonstrations
from vla.policy import Policy
from vla.train import train
from vla.train.features import Features, obstacle, reach

INTRINSICS = np.array([[30, 0, 16], [0, 30, 16], [0, 0, 1]], np.float32)


def everything(items, description):
    return items


def with_depth(observation: Observation, depth: float) -> Observation:
    cameras = {name: CameraFrame(frame.rgb, np.full((SIZE, SIZE), depth, np.float32), INTRINSICS, np.eye(4, dtype=np.float32))
               for name, frame in observation.cameras.items()}
    return replace(observation, cameras=cameras)


@pytest.fixture(scope="module")
def deep_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes of three frames; the depth of frame i is 1 + i/10 metres everywhere."""
    root, robot = tmp_path_factory.mktemp("deep") / "data", ToyRobot()
    cameras = tuple(CameraSpec(camera.name, SIZE, SIZE, depth=True) for camera in robot.spec.observation.cameras)
    spec: RobotSpec = replace(robot.spec, observation=replace(robot.spec.observation, cameras=cameras))
    recorder = Recorder(root, spec)
    for episode in range(2):
        robot.reset(episode)
        for frame in range(3):
            recorder.add(with_depth(robot.observe(), 1 + 0.1 * (3 * episode + frame)), np.full(2, 0.01 * frame, np.float32))
            robot.act(np.array([0.05, 0.0]))
        recorder.save_episode(success=True)
    recorder.finish()
    return root


@pytest.fixture
def recipe(toy_recipe: Callable, deep_data: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    monkeypatch.setitem(PERCEPTION._addresses, "nearness", "toy_front_end:Nearness")
    return lambda *overrides: toy_recipe(f"data.root={deep_data}", "perception=[{kind: nearness}]", "tuning.vision=frozen",
                                         "train.batch_size=3", "train.feature_dtype=float32", *overrides)


def test_depth_and_camera_geometry_reach_the_front_end(recipe: Callable):
    data = Demonstrations(recipe())
    index = np.array([4, 1])
    batch = data.open_frames(everything, depth=True).add_to(data.columns(index, "cpu").batch, index)
    assert torch.allclose(batch.depth["wrist"][:, 0, 0], torch.tensor([1.4, 1.1]), atol=1e-3)
    assert torch.equal(batch.intrinsics["front"], torch.from_numpy(INTRINSICS).expand(2, 3, 3))
    assert torch.equal(batch.world_from_camera["front"], torch.eye(4).expand(2, 4, 4))


def test_cached_percepts_are_those_that_would_be_computed(recipe: Callable):
    data = Demonstrations(recipe())
    policy = Policy.build(data.recipe, data.spec, data.normalizer())
    assert obstacle(policy) is None
    index = np.array([5, 0, 2])
    cached = Features(policy, data, everything).percept(index, policy.device)
    batch = data.open_frames(everything, depth=True).add_to(data.columns(index, "cpu").batch, index)
    with torch.no_grad():
        computed = policy.backbone.see(policy.perceive(batch))
    torch.testing.assert_close(cached.features, computed.features)
    torch.testing.assert_close(cached.tokens, computed.tokens)
    assert torch.equal(cached.token_mask, computed.token_mask)


def test_other_frozen_weights_are_another_cache(recipe: Callable):
    data = Demonstrations(recipe())
    policy = Policy.build(data.recipe, data.spec, data.normalizer())
    before = Features(policy, data, everything).percept(np.array([0]), policy.device)
    with torch.no_grad():
        next(policy.plain_backbone.eye.parameters()).add_(1.0)
    after = Features(policy, data, everything).percept(np.array([0]), policy.device)
    assert not torch.equal(before.features, after.features)


def test_what_frozen_front_ends_show_to_a_trained_eye_is_cached_too(toy_recipe: Callable, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(PERCEPTION._addresses, "doubter", "toy_front_end:Doubter")
    data = Demonstrations(toy_recipe("perception=[{kind: doubter}]", "tuning.vision=full"))
    policy = Policy.build(data.recipe, data.spec, data.normalizer())
    assert reach(policy) == "images"
    index = np.array([7, 3])
    batch = data.open_frames(everything).add_to(data.columns(index, "cpu").batch, index)
    cached = Features(policy, data, everything).percept(index, policy.device)
    assert cached.features is None
    torch.testing.assert_close(cached.images, policy.perceive(batch).images, atol=0.5 / 255, rtol=0)
    torch.testing.assert_close(policy.context(batch, cached).readout, policy.context(batch).readout, atol=0.02, rtol=0)


def test_a_policy_that_looks_at_depth_trains_and_insists_on_it(recipe: Callable, tmp_path: Path):
    result = train(recipe("train.steps=2", "train.cache_features=true"), tmp_path / "run", progress=False)
    policy, robot = Policy.load(result.policy_dir), ToyRobot()
    robot.reset(0)
    assert all(camera.depth for camera in policy.spec.observation.cameras)
    assert policy.infer(with_depth(robot.observe(), 1.2)).actions.shape == (4, 2)
    with pytest.raises(UserError, match=r"camera 'front'.*no depth"):
        policy.infer(robot.observe())


@pytest.mark.parametrize(("override", "words"), [
    ("perception=[{kind: shift}]", "'shift' is not frozen"),
    ("tuning.vision=full", "vision tower is trained"),
])
def test_what_is_trained_is_not_cached(recipe: Callable, override: str, words: str):
    data = Demonstrations(recipe(override))
    policy = Policy.build(data.recipe, data.spec, data.normalizer())
    assert words in obstacle(policy)
    assert reach(policy) != "features"


@pytest.fixture
def weighing(toy_recipe: Callable, monkeypatch: pytest.MonkeyPatch) -> Callable:
    for kind, name in (("mapper", "Mapper"), ("weigher", "Weigher")):
        monkeypatch.setitem(PERCEPTION._addresses, kind, f"toy_front_end:{name}")

    def make(*overrides: str, hide: bool = True):
        return toy_recipe(f"perception=[{{kind: mapper, hide: {str(hide).lower()}}}, {{kind: weigher}}]", "tuning.vision=frozen",
                          "train.feature_dtype=float32", *overrides)

    return make


@pytest.mark.parametrize("hide", [True, False])
def test_of_frozen_and_trained_front_ends_the_frozen_are_cached(weighing: Callable, hide: bool):
    data = Demonstrations(weighing(hide=hide))
    policy = Policy.build(data.recipe, data.spec, data.normalizer())
    assert reach(policy) == "features"
    index = np.array([4, 1])
    samples, frames = data.columns(index, "cpu"), data.open_frames(everything)
    cached = Features(policy, data, everything).percept(index, policy.device)
    assert set(cached.maps) == {"colour"}
    assert cached.tokens is None and cached.images is None and (cached.features is None) == hide
    whole = policy.loss(frames.add_to(samples.batch, index), samples.actions, samples.valid).total
    torch.testing.assert_close(policy.loss(samples.batch, samples.actions, samples.valid, cached).total, whole)
    whole.backward()
    assert policy.front_ends[1].weigh.weight.grad.abs().sum() > 0


def test_a_trained_front_end_is_trained_saved_and_loaded(weighing: Callable, tmp_path: Path):
    recipe = weighing("train.steps=3", "train.learning_rate=0.05")
    data = Demonstrations(recipe)
    fresh = Policy.build(recipe, data.spec, data.normalizer())
    policy = Policy.load(train(recipe, tmp_path / "run", progress=False).policy_dir)
    assert not torch.equal(policy.front_ends[1].weigh.weight, fresh.front_ends[1].weigh.weight)
    folder = tmp_path / "run" / "policy"
    seen = Policy.load(folder, overrides=["perception.0.hide=false"])
    assert torch.equal(seen.front_ends[1].weigh.weight, policy.front_ends[1].weigh.weight)
    with pytest.raises(UserError, match=r"perception.1.*'weigher' is trained"):
        Policy.load(folder, overrides=["perception.1.width=3"])
    with pytest.raises(UserError, match=r"perception.0.*'weigher' is trained"):
        Policy.load(folder, overrides=["perception=[{kind: weigher}]"])


def test_what_reads_pictures_after_a_trained_front_end_is_in_the_way(weighing: Callable):
    recipe = weighing("perception=[{kind: mapper}, {kind: weigher}, {kind: mapper}]")
    data = Demonstrations(recipe)
    policy = Policy.build(recipe, data.spec, data.normalizer())
    assert reach(policy) is None and "'mapper' comes after a trained one" in obstacle(policy)


def test_hidden_pictures_and_a_backbone_that_needs_them_are_refused(weighing: Callable, monkeypatch: pytest.MonkeyPatch):
    from backbones.tiny.model import Tiny

    data = Demonstrations(weighing())
    monkeypatch.setattr(Tiny, "needs_pictures", True)
    with pytest.raises(UserError, match=r"'mapper'.*hides the pictures.*'tiny' needs"):
        Policy.build(data.recipe, data.spec, data.normalizer())

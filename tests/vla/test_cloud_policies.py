"""Policies that see points: the cloud is cached, what follows is trained, saved with its adapters, and loaded without its checkpoint."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_robot import SIZE, ToyRobot

from robot_io import CameraFrame, CameraSpec, Observation, UserError
from robot_io.dataset import Recorder
from vla.data import Demonstrations
from vla.policy import Policy
from vla.recipe import load_recipe
from vla.train import train
from vla.train.features import Features, reach
from vla.tuning import parts

INTRINSICS = np.array([[30, 0, 16], [0, 30, 16], [0, 0, 1]], np.float32)
CLOUD = "{kind: point_cloud, points: 64, candidates: 256, low: [-3, -3, 0], high: [3, 3, 3], hide_pictures: true}"


def with_depth(observation: Observation) -> Observation:
    """A bumpy wall before every camera, as far as the point is from the middle."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    depth = (1 + 0.1 * np.sin(rows / 3) * np.cos(columns / 4) + np.abs(observation.state).sum() / 5).astype(np.float32)
    cameras = {name: CameraFrame(frame.rgb, depth, INTRINSICS, np.eye(4, dtype=np.float32)) for name, frame in observation.cameras.items()}
    return replace(observation, cameras=cameras)


@pytest.fixture(scope="module")
def deep_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, robot = tmp_path_factory.mktemp("clouds") / "data", ToyRobot()
    cameras = tuple(CameraSpec(camera.name, SIZE, SIZE, depth=True) for camera in robot.spec.observation.cameras)
    recorder = Recorder(root, replace(robot.spec, observation=replace(robot.spec.observation, cameras=cameras)))
    for episode in range(2):
        robot.reset(episode)
        for frame in range(4):
            recorder.add(with_depth(robot.observe()), np.full(2, 0.01 * frame, np.float32))
            robot.act(np.array([0.05, 0.0]))
        recorder.save_episode(success=True)
    recorder.finish()
    return root


@pytest.fixture
def recipe(toy_recipe: Callable, deep_data: Path) -> Callable:
    def make(encoder: str, *overrides: str):
        return toy_recipe(f"data.root={deep_data}", f"perception=[{CLOUD}, {encoder}]", "tuning.vision=frozen", "train.batch_size=3",
                          "train.steps=2", "train.learning_rate=0.01", *overrides)

    return make


def clip(folder: Path) -> str:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    CLIPVisionModel(CLIPVisionConfig(hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=64,
                                     patch_size=16)).save_pretrained(folder)
    return f"{{kind: lift3d, weights: {folder}, tokens: 8, neighbours: 4}}"


def test_the_cloud_is_cached_and_gives_the_same_loss_as_if_it_were_not(recipe: Callable):
    data = Demonstrations(recipe("{kind: dp3}", "train.feature_dtype=float32"))
    policy = Policy.build(data.recipe, data.spec, data.normalizer())
    assert reach(policy) == "features" and policy.needs_depth
    index = np.array([6, 1])
    samples, frames = data.columns(index, "cpu"), data.open_frames(lambda items, _: items, depth=True)
    cached = Features(policy, data, lambda items, _: items).percept(index, policy.device)
    assert set(cached.maps) == {"cloud", "cloud_mask"} and cached.maps["cloud_mask"].dtype == torch.bool and cached.features is None
    torch.testing.assert_close(policy.loss(samples.batch, samples.actions, samples.valid, cached).total,
                               policy.loss(frames.add_to(samples.batch, index), samples.actions, samples.valid).total)


def test_a_lifted_policy_carries_its_adapters_and_its_transformer(recipe: Callable, tmp_path: Path):
    encoder = clip(tmp_path / "clip")
    data = Demonstrations(recipe(encoder))
    fresh = Policy.build(data.recipe, data.spec, data.normalizer())
    by_part = {part.name: part for part in parts(fresh, data.recipe.train)}
    assert 0 < by_part["perception"].trainable < by_part["perception"].total
    policy_dir = train(recipe(encoder), tmp_path / "run", progress=False).policy_dir
    shutil.rmtree(tmp_path / "clip")  # the robot has no such folder
    policy = Policy.load(policy_dir)
    before, after = fresh.front_ends[1].state_dict(), policy.front_ends[1].state_dict()
    adapters = [name for name in after if "lora_B" in name]
    assert adapters and all(after[name].any() and not before[name].any() for name in adapters)
    frozen = [name for name in after if ".base_layer." in name or "position_embedding" in name]
    assert len(frozen) > 3 and all(torch.equal(before[name], after[name]) for name in frozen)
    robot = ToyRobot()
    robot.reset(0)
    observation = with_depth(robot.observe())
    policy.reset(5)
    chunk = policy.infer(observation).actions
    policy.save(tmp_path / "again")
    again = Policy.load(tmp_path / "again")
    again.reset(5)
    np.testing.assert_array_equal(again.infer(observation).actions, chunk)


def test_the_trained_encoder_cannot_be_exchanged_and_the_cloud_before_it_can(recipe: Callable, tmp_path: Path):
    policy_dir = train(recipe("{kind: dp3}"), tmp_path / "run", progress=False).policy_dir
    with pytest.raises(UserError, match=r"'dp3' is trained"):
        Policy.load(policy_dir, overrides=["perception.1.reach=0.3"])
    noisy = Policy.load(policy_dir, overrides=["perception.0.outliers=radius"])
    original = Policy.load(policy_dir)
    assert torch.equal(noisy.front_ends[1].project[0].weight, original.front_ends[1].project[0].weight)


def test_the_presets_are_what_they_say():
    raw = load_recipe("raw", ["train.steps=1200"])
    for name, kinds in (("dp3", ["point_cloud", "dp3"]), ("lifted", ["point_cloud", "lift3d"]),
                        ("grounded_lifted", ["object_centric", "point_cloud", "lift3d"])):
        recipe = load_recipe(name)
        cloud = recipe.perception[kinds.index("point_cloud")]
        assert [config.kind for config in recipe.perception] == kinds and cloud.hide_pictures and cloud.frame == "wrist"
        assert cloud.only_regions == (name == "grounded_lifted")
        assert recipe.backbone == raw.backbone and recipe.train == raw.train
        assert (recipe.tuning.mode, recipe.tuning.vision) == ("full", "frozen")


def test_three_kinds_of_perception_in_a_list_on_the_tabletop():
    """Object-centric, then a summary beside it, then the grounded points lifted: words and tokens at once, and nothing but the target in the cloud."""
    from perception import PERCEPTION
    from perception.percept import Batch, perceive
    from robot_io.tabletop.robot import TabletopRobot

    robot = TabletopRobot(image_size=96, oracle=True, task={"distractors": 3})
    try:
        robot.reset(3)
        observation, target = robot.observe(), next(thing for thing in robot.object_state() if thing.target)
    finally:
        robot.close()
    configs = [
        {"kind": "object_centric", "detector": {"kind": "oracle"}, "keep_robot": False},
        {"kind": "summary"},
        {"kind": "point_cloud", "points": 64, "only_regions": True, "hide_pictures": True},
        {"kind": "lift3d", "tokens": 8, "neighbours": 4, "roles": True},
    ]
    chain = [PERCEPTION.load(config["kind"])(PERCEPTION.configure(config)).eval() for config in configs]
    found = perceive(chain, Batch.stack([observation], ("front", "wrist")))
    assert found.images is None and found.text and target.shape in found.text[0]
    assert found.tokens.shape == (1, 9, 96) and found.token_mask.all()
    away = (found.evidence["lift3d/centres"][0] - torch.from_numpy(target.position).float()).norm(dim=-1)
    assert away.max() < 2.2 * target.half_width

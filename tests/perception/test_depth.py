"""Depth from the sensor and from the real Depth Anything V2 class at a tiny size, and what is wrong with a checkpoint."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy_scene import SIZE, scene

from perception import lifting
from perception.depth import Depth
from perception.depth_plane import metres, table_depth
from perception.geometric import Geometric
from perception.percept import perceive
from robot_io import UserError


def write_checkpoint(folder: Path, kind: str = "metric", seed: int = 0) -> Path:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

    torch.manual_seed(seed)
    eye = Dinov2Config(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=14,
                       out_indices=[1, 2, 3, 4], reshape_hidden_states=False)
    config = DepthAnythingConfig(backbone_config=eye, reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 8, 8],
                                 fusion_hidden_size=8, head_hidden_size=8, depth_estimation_type=kind, max_depth=20)
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    DPTImageProcessor(size={"height": 56, "width": 56}, keep_aspect_ratio=True, ensure_multiple_of=14,
                      image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]).save_pretrained(folder)
    return folder


def write_other(folder: Path, source: str) -> Path:
    """A tiny ZoeDepth or DPT, of the very classes."""
    from transformers import (
        BeitConfig,
        DPTConfig,
        DPTForDepthEstimation,
        DPTImageProcessor,
        ZoeDepthConfig,
        ZoeDepthForDepthEstimation,
        ZoeDepthImageProcessor,
    )

    torch.manual_seed(0)
    sizes = {"neck_hidden_sizes": [8, 8, 8, 8], "fusion_hidden_size": 8}
    if source == "zoedepth":
        eye = BeitConfig(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16,
                         use_relative_position_bias=True, reshape_hidden_states=False, out_features=["stage1", "stage2", "stage3", "stage4"])
        config = ZoeDepthConfig(backbone_config=eye, **sizes, bottleneck_features=8, num_relative_features=4, num_attractors=[4, 2, 2, 1],
                                bin_embedding_dim=8, bin_configurations=[{"n_bins": 8, "min_depth": 0.01, "max_depth": 4.0, "name": "table"}])
        ZoeDepthForDepthEstimation(config).save_pretrained(folder)
        ZoeDepthImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    else:
        config = DPTConfig(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16,
                           backbone_out_indices=[0, 1, 2, 3], use_auxiliary_head=False, **sizes)
        DPTForDepthEstimation(config).save_pretrained(folder)
        DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("depth_anything"))


def depth(checkpoint: Path | None = None, **options) -> Depth:
    if checkpoint is not None:
        options = {"source": "depth_anything_v2", "checkpoint": str(checkpoint)} | options
    return Depth(Depth.Config(**options)).eval()


def test_the_sensors_depth_is_the_sensors():
    batch, percept = scene((0.45, 0.05))
    front_end = depth()
    found = front_end(batch, percept).depth
    assert torch.equal(found[:, 1], batch.depth["side"]) and front_end.needs_depth and not front_end.estimates_depth
    with pytest.raises(UserError, match="no depth"):
        front_end(replace(batch, depth={}), percept)


def test_estimates_are_the_librarys_own_pipeline(checkpoint):
    from PIL import Image
    from transformers import DepthAnythingForDepthEstimation, DPTImageProcessor, pipeline

    batch, percept = scene((0.45, 0.05), (0.5, -0.05))
    found = depth(checkpoint)(batch, percept).depth
    reference = pipeline("depth-estimation", model=DepthAnythingForDepthEstimation.from_pretrained(checkpoint),
                         image_processor=DPTImageProcessor.from_pretrained(checkpoint), device="cpu")
    assert found.shape == (2, 2, SIZE, SIZE)
    for row in range(2):
        picture = Image.fromarray(batch.rgb["side"][row].numpy())
        torch.testing.assert_close(found[row, 1], reference(picture)["predicted_depth"], atol=2e-3, rtol=1e-3)


def test_what_follows_works_on_the_estimate_of_cameras_without_depth(checkpoint):
    batch, percept = scene((0.45, 0.05))
    blind = replace(batch, depth={})
    chain = [depth(checkpoint), Geometric(Geometric.Config(far=20))]
    assert chain[0].estimates_depth and not chain[0].needs_depth
    images = perceive(chain, blind).images
    assert images.shape == percept.images.shape and images.max() > 0
    half_blind = replace(batch, depth={"side": batch.depth["side"]})
    kept = depth(checkpoint, keep_sensor=True)(half_blind, percept).depth
    assert torch.equal(kept[:, 1], batch.depth["side"])
    torch.testing.assert_close(kept[:, 0], chain[0](blind, percept).depth[:, 0])


def test_a_smaller_input_is_possible(checkpoint):
    batch, percept = scene((0.45, 0.05))
    assert depth(checkpoint, input_size=28)(batch, percept).depth.shape == (1, 2, SIZE, SIZE)


def test_a_policy_carries_the_checkpoints_fingerprint_and_not_its_weights(checkpoint, tmp_path):
    front_end = depth(checkpoint)
    saved = front_end.state_dict()
    assert list(saved) == ["estimator.fingerprint"] and not list(front_end.parameters())
    other = depth(write_checkpoint(tmp_path, seed=1))
    other.load_state_dict(saved)
    with pytest.raises(UserError, match="not those"):
        other(*scene((0.45, 0.05)))


def test_wrong_checkpoints_are_refused_with_what_to_fetch(checkpoint, tmp_path):
    with pytest.raises(UserError, match=r"model.safetensors.*hf download depth-anything/"):
        depth(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"relative network.*align: table"):
        depth(write_checkpoint(tmp_path / "relative", kind="relative"))
    with pytest.raises(UserError, match=r"holds a depth_anything model.*zoedepth"):
        depth(checkpoint, source="zoedepth")
    with pytest.raises(UserError, match="gives metres already"):
        depth(checkpoint, align="table")
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text((checkpoint / name).read_text())
    with pytest.raises(UserError, match="cannot be loaded"):
        depth(tmp_path)
    config = json.loads((checkpoint / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"head_hidden_size": 12}))
    (tmp_path / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    with pytest.raises(UserError, match=r"another shape: head\.conv2\.bias"):
        depth(tmp_path)


@pytest.mark.parametrize("source", ["zoedepth", "dpt"])
def test_other_networks_are_the_librarys_pipelines_too(source, tmp_path):
    from PIL import Image
    from transformers import pipeline

    folder = write_other(tmp_path, source)
    batch, percept = scene((0.45, 0.05))
    align = {"align": "table"} if source == "dpt" else {}
    front_end = depth(folder, source=source, **align)
    said = pipeline("depth-estimation", model=str(folder), device="cpu")(Image.fromarray(batch.rgb["front"][0].numpy()))["predicted_depth"]
    estimate = front_end.estimator(percept.images)[0, 0]
    torch.testing.assert_close(estimate, said.squeeze().clamp(min=0), atol=2e-3, rtol=1e-2)
    found = front_end(batch, percept).depth
    assert front_end.estimator.metric == (source == "zoedepth")
    assert found.shape == (1, 2, SIZE, SIZE) and found.isfinite().all() and (found >= 0).all()
    if source == "zoedepth":
        assert torch.equal(found[0, 0], estimate)


@pytest.mark.parametrize(("scale", "shift"), [(0.3, 0.0), (40.0, 7.0)])
def test_the_table_gives_relative_depth_its_metres(scale, shift):
    """Whatever scale and shift a relative network has, and though a ball stands on the table, depth comes out right."""
    batch, percept = scene((0.45, 0.05), (0.5, -0.1))
    truth = torch.stack([batch.depth[name] for name in batch.cameras], 1)
    intrinsics, (poses, _) = lifting.view_intrinsics(batch, "test"), lifting.view_poses(batch)
    table = table_depth(intrinsics, poses, SIZE, SIZE)
    bare = ~percept.regions.union & (truth < 2.9)
    torch.testing.assert_close(table[bare], truth[bare], atol=1e-3, rtol=1e-3)
    said = scale / truth + shift + 1e-4 * scale * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    found = metres(said, table)
    near = truth < 2
    assert ((found - truth).abs() / truth)[near].max() < 0.01
    assert (metres(said, torch.zeros_like(table)) == 0).all()  # no table, no yardstick


def test_aligning_needs_to_know_where_the_camera_is(tmp_path):
    batch, percept = scene((0.45, 0.05))
    front_end = depth(write_other(tmp_path, "dpt"), source="dpt", align="table")
    with pytest.raises(UserError, match=r"'front'.*pose is unknown"):
        front_end(replace(batch, world_from_camera={}), percept)

"""VGGT: the published layout, parity of its patch embedding with transformers, what its attention may depend on, and loading."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import torch
from toy_vggt import SIZES, randomised, toy_vggt, write_vggt

from perception.vggt.checkpoint import load_eye, load_vggt, save_weights
from perception.vggt.layers import grid_positions, rotary
from perception.vggt.model import UNUSED, Sizes, Vggt, fitted
from robot_io import UserError

LAYOUT = Path(__file__).parent.parent / "fixtures" / "vggt_1b.json"
"""Names and shapes of facebook/VGGT-1B, as public conversions of the checkpoint list them."""


def published() -> dict[str, tuple[int, ...]]:
    """The list spelled out: `{0-23}` stands for a number."""
    def spelled(name: str) -> list[str]:
        found = re.search(r"\{(\d+)-(\d+)\}", name)
        if not found:
            return [name]
        return [each for n in range(int(found[1]), int(found[2]) + 1) for each in spelled(name[: found.start()] + str(n) + name[found.end():])]

    return {name: tuple(shape) for pattern, shape in json.loads(LAYOUT.read_text()).items() for name in spelled(pattern)}


@pytest.fixture(scope="module")
def full_size() -> Vggt:
    with torch.device("meta"):
        return Vggt()


def test_every_name_of_the_published_checkpoint_is_used_or_listed_as_unused(full_size: Vggt):
    layout = published()
    assert len(layout) == 1797 and all(any(name.startswith(part) for name in layout) for part in UNUSED)
    assert {name: tuple(value.shape) for name, value in full_size.state_dict().items()} == {
        name: shape for name, shape in layout.items() if not name.startswith(UNUSED)}
    assert sum(math.prod(shape) for name, shape in layout.items() if name.startswith("aggregator.")) == 909_112_320


def test_shapes_at_the_published_size(full_size: Vggt):
    with torch.device("meta"):
        pictures = fitted(torch.rand(2, 1, 3, 240, 320), 320, 14)
        assert pictures.shape[-2:] == (238, 322)
        semantic, layers = full_size.aggregator(pictures, full_size.sizes.depth_layers)
        depth, confidence = full_size.depth_of(layers, (238, 322))
    assert semantic.shape == (2, 1, 17 * 23, 1024)
    assert [layer.shape for layer in layers] == 4 * [(2, 1, 5 + 17 * 23, 2048)]
    assert depth.shape == confidence.shape == (2, 1, 238, 322)


@pytest.mark.parametrize("size", [(56, 56), (42, 84)])
def test_the_patch_embedding_is_transformers_dinov2_with_registers(size: tuple[int, int]):
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    theirs = randomised(Dinov2WithRegistersModel(Dinov2WithRegistersConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14))).eval()
    ours = Sizes(dim=16, heads=2, eye_depth=2, patch=14, image_size=56).eye()
    weights, found = theirs.state_dict(), {}
    for name in ours.state_dict():
        at = re.fullmatch(r"blocks\.(\d+)\.(.*)", name)
        if at and at[2].startswith("attn.qkv"):
            each = [f"encoder.layer.{at[1]}.attention.{part}_proj.{name.rpartition('.')[2]}" for part in "qkv"]
            found[name] = torch.cat([weights[one] for one in each])
        elif at:
            part = at[2].replace("attn.proj", "attention.o_proj").replace("ls1.gamma", "layer_scale1.lambda1").replace(
                "ls2.gamma", "layer_scale2.lambda1")
            found[name] = weights[f"encoder.layer.{at[1]}.{part}"]
        else:
            other = {"cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings", "mask_token": "embeddings.mask_token",
                     "register_tokens": "embeddings.register_tokens", "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
                     "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias", "norm.weight": "layernorm.weight",
                     "norm.bias": "layernorm.bias"}
            found[name] = weights[other[name]]
    ours.load_state_dict(found)
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(images), theirs(images).last_hidden_state[:, 5:], atol=2e-5, rtol=1e-4)


def test_rotary_positions_are_relative_and_turn_without_stretching():
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 2, 12, 16)
    here = grid_positions(3, 4)[None]

    def scores(moved: torch.Tensor) -> torch.Tensor:
        return rotary(q, moved) @ rotary(k, moved).mT

    torch.testing.assert_close(scores(here), scores(here + torch.tensor([5, 9])), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(scores(here), scores(here.flip(-1)), atol=1e-2)
    torch.testing.assert_close(rotary(q, here).norm(dim=-1), q.norm(dim=-1))
    assert torch.equal(rotary(q, torch.zeros_like(here)), q)


def test_later_frames_are_a_set_and_the_first_is_their_reference():
    vggt, images = toy_vggt(), torch.rand(1, 4, 3, 28, 56)
    with torch.no_grad():
        semantic, geometric = vggt.tokens(images)
        shuffled = [0, 3, 1, 2]
        again_semantic, again = vggt.tokens(images[:, shuffled])
        torch.testing.assert_close(again, geometric[:, shuffled], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(again_semantic, semantic[:, shuffled], atol=1e-5, rtol=1e-5)
        other_reference = vggt.tokens(images[:, [1, 0, 2, 3]])[1]
        assert (other_reference[:, [1, 0, 2, 3]] - geometric).abs().max() > 1e-2
        fewer = vggt.tokens(images[:, :2])
    torch.testing.assert_close(fewer[0], semantic[:, :2], atol=1e-5, rtol=1e-5)  # what is where is each picture's own
    assert (fewer[1] - geometric[:, :2]).abs().max() > 1e-3  # how it fits together is not


def test_scenes_of_a_batch_do_not_see_each_other():
    vggt, images = toy_vggt(), torch.rand(3, 2, 3, 28, 28)
    with torch.no_grad():
        depth, confidence = vggt(images)
        alone, _ = vggt(images[1:2])
    torch.testing.assert_close(alone, depth[1:2], atol=1e-4, rtol=1e-4)
    assert depth.shape == (3, 2, 28, 28) and (depth > 0).all() and (confidence >= 1).all()


def test_a_checkpoint_is_loaded_by_name_and_heads_it_does_not_need_are_left_alone(tmp_path: Path):
    loaded = load_vggt(str(write_vggt(tmp_path / "vggt")))
    assert loaded.sizes == SIZES and not any(parameter.requires_grad for parameter in loaded.parameters())
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(loaded.state_dict().values(), toy_vggt().state_dict().values(), strict=True))


def test_nothing_is_left_over_missing_or_of_another_shape(tmp_path: Path):
    for number, (change, words) in enumerate([({"stranger": torch.ones(1)}, "'stranger' belongs nowhere"),
                                              ({"aggregator__camera_token": None}, "'aggregator.camera_token' is missing"),
                                              ({"depth_head__norm__bias": torch.ones(2)}, r"'depth_head.norm.bias' is \(2,\), not \(32,\)")]):
        with pytest.raises(UserError, match=words):
            load_vggt(str(write_vggt(tmp_path / str(number), **change)))


def test_what_is_not_there_says_what_to_fetch(tmp_path: Path):
    for source in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match=r"hf download facebook/VGGT-1B"):
            load_vggt(str(source))
    with pytest.raises(UserError, match="hub"):
        load_vggt("facebook/VGGT-1B")
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(UserError, match="cannot be read"):
        load_vggt(str(tmp_path))


def test_an_eye_is_saved_with_its_sizes(tmp_path: Path):
    sizes = Sizes(dim=16, heads=2, eye_depth=1, patch=8, image_size=32, stem=(8, 8, 16))
    eye = randomised(sizes.eye()).eval()
    save_weights(eye, sizes, tmp_path / "eye.safetensors")
    again, images = load_eye(str(tmp_path / "eye.safetensors")), torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        assert eye(images).shape == (1, 24, 16) and torch.equal(again(images), eye(images))

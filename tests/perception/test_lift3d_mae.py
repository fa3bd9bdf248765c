"""Lift3D's first stage: what is masked, what is learnt and what stays, and that its weights are read where they are used."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from perception import teaching
from perception.lift3d import Lift3D, pretrained, train
from perception.lift3d.affordance import clip_affordance, load_clip
from perception.lift3d.mae import affordance_patches, patchwise, plain_weights, visible_patches
from perception.lift3d.scenes import ARRAYS, scenes
from robot_io import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight drawn scenes: a square on a slope, its depth, and its mask."""
    root = tmp_path_factory.mktemp("scenes")
    arrays, rng = teaching.open_arrays(root, ARRAYS, 8), np.random.default_rng(0)
    for i in range(8):
        for view in range(2):
            x, y = rng.integers(8, 88, 2)
            target = np.zeros((128, 128), bool)
            target[y : y + 32, x : x + 32] = True
            slope = np.linspace(1.2, 0.5, 128)[:, None].repeat(128, 1)
            arrays["images"][i, view] = np.where(target[..., None], [200, 30, 30], (slope[..., None] * 150)).astype(np.uint8)
            arrays["depth"][i, view] = slope - 0.1 * target
            arrays["target"][i, view] = target
        arrays["words"][i] = "pick up the red square"
    for array in arrays.values():
        array.flush()
    return root


def pictures(folder: Path, size: int = 128) -> train.Pictures:
    return train.Pictures(teaching.open_arrays(folder, ARRAYS), size)


def test_what_the_words_are_about_is_masked_first_and_three_quarters_in_all():
    maps = torch.zeros(3, 64, 64)
    maps[0, :16, :32], maps[1, 8:20, 8:20] = 1.0, 0.9
    afforded = affordance_patches(maps, 8)
    assert afforded[0].sum() == 8 and afforded[2].sum() == 0
    assert not afforded[1, 0] and afforded[1, 9]
    visible = visible_patches(afforded, generator=torch.Generator().manual_seed(0))
    assert visible.shape == (3, 16)
    assert not afforded.gather(1, visible).any()
    assert (visible.diff(dim=1) > 0).all()
    everything = visible_patches(torch.ones(1, 64, dtype=torch.bool))
    assert everything.shape == (1, 16)  # where all is afforded, some of it has to be seen


def test_patches_hold_their_own_pixels_in_reading_order():
    image = torch.arange(64.0).view(1, 1, 8, 8)
    patches = patchwise(image, 4)
    assert patches.shape == (1, 4, 16)
    torch.testing.assert_close(patches[0, 1].view(4, 4), image[0, 0, :4, 4:])


def test_the_first_stage_learns_depth_and_leaves_the_original_as_it_was(folder: Path):
    options = train.Options(start=None, steps=15, batch=4, rate=5e-3, rank=4)
    model, size = train.make(options)
    assert size == 128 and model.side == 16
    model.original.model.load_state_dict(plain_weights(model.encoder))  # random weights differ from build to build
    frozen = {name: tensor.clone() for name, tensor in model.named_parameters() if not tensor.requires_grad}
    images, depth, target, _ = pictures(folder).draw(np.random.default_rng(0), 4)
    visible = visible_patches(affordance_patches(target, 8, 0.1), generator=torch.Generator().manual_seed(0))
    first = model.eval()(images, depth, visible)
    assert first["distillation"] < 1e-6  # adapters begin as nothing
    train.fit(model, pictures(folder), options, lambda step, losses: None)
    last = model.eval()(images, depth, visible)
    assert last["reconstruction"] < 0.6 * first["reconstruction"] and last["distillation"] > 1e-6
    assert all(torch.equal(parameter, frozen[name]) for name, parameter in model.named_parameters() if name in frozen)
    assert {name.split(".")[0] for name in frozen} == {"encoder", "original"}


def test_from_nothing_positions_begin_as_waves_of_the_place():
    model, _ = train.make(train.Options(start=None, distil=False))
    grid = model.encoder.grid
    assert torch.equal(model.position, grid.flatten(0, 1))
    torch.testing.assert_close(grid.norm(dim=-1), torch.full((8, 8), 48**0.5))
    assert (grid[1:] - grid[:-1]).norm(dim=-1).max() < (grid[4:] - grid[:-4]).norm(dim=-1).min()


def test_weights_with_the_adapters_added_in_are_read_by_the_front_end(folder: Path, tmp_path: Path):
    options = train.Options(start=None, steps=3, batch=2, rate=0.01, distil=False)
    model, _ = train.make(options)
    train.fit(model, pictures(folder), options, lambda step, losses: None)
    model.eval()
    images = pictures(folder).draw(np.random.default_rng(0), 2)[0]
    expected = model.encode(model.encoder, images, None)
    train.save(model, None, tmp_path / "taught.safetensors")
    front_end = Lift3D(Lift3D.Config(weights=str(tmp_path / "taught.safetensors"), tokens=8)).eval()
    front_end.load_pretrained()
    found = model.encode(front_end.transformer, images, None)
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)  # kept in half precision
    assert (tmp_path / "taught.safetensors").stat().st_size < 2e6


def test_a_transformers_checkpoint_goes_through_it_and_comes_out_as_one(folder: Path, tmp_path: Path):
    from transformers import CLIPVisionConfig, CLIPVisionModel

    CLIPVisionModel(CLIPVisionConfig(hidden_size=24, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32,
                                     patch_size=8)).save_pretrained(tmp_path / "clip")
    options = train.Options(start=str(tmp_path / "clip"), steps=2, batch=2, rate=0.01)
    model, size = train.make(options)
    assert size == 32
    losses: list[dict[str, float]] = []
    train.fit(model, pictures(folder, size), options, lambda step, found: losses.append(found))
    assert set(losses[-1]) == {"reconstruction", "distillation"}
    train.save(model, options.start, tmp_path / "taught")
    again = pretrained.build(str(tmp_path / "taught"))
    pretrained.load(again, str(tmp_path / "taught"))
    for name, tensor in plain_weights(model.encoder).items():
        torch.testing.assert_close(again.model.state_dict()[name], tensor)


def test_the_command_trains_probes_and_saves(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(train, "PROBE", 8)
    monkeypatch.setattr(sys, "argv", ["train", str(folder), "--exam", str(folder), "--out", str(tmp_path / "w.safetensors"), "--start", "null",
                                      "--target", "rgb", "--mask", "random", "--tuning", "full", "--steps", "2", "--batch", "2"])
    threads = torch.get_num_threads()
    train.main()
    torch.set_num_threads(threads)
    said = capsys.readouterr().out
    assert '"reconstruction"' in said and '"depth_error_mm"' in said and (tmp_path / "w.safetensors").is_file()


def test_clips_map_is_about_the_words_and_spans_the_unit_interval():
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    text = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "eos_token_id": 49}
    vision = {"hidden_size": 24, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).eval()
    pixels = torch.randn(2, 3, 32, 32)
    words = [{"input_ids": torch.tensor([[3, first, 49]] * 2), "attention_mask": torch.ones(2, 3, dtype=torch.long)} for first in (7, 20)]
    maps = [clip_affordance(clip, pixels, one) for one in words]
    assert maps[0].shape == (2, 4, 4)
    assert torch.equal(maps[0].amax((1, 2)), torch.ones(2)) and torch.equal(maps[0].amin((1, 2)), torch.zeros(2))
    assert not torch.allclose(maps[0], maps[1])
    with pytest.raises(UserError, match="hf download openai/clip-vit-base-patch32"):
        load_clip("/nowhere")


def test_rendered_scenes_say_what_the_instruction_is_about():
    rows = scenes(0, seed=7)
    for _, row in zip(range(2), rows, strict=False):
        assert set(row) == set(ARRAYS)
        assert row["images"].shape == (2, 128, 128, 3) and row["target"].any() and str(row["words"]).startswith("pick")
        depth = row["depth"]
        assert (depth > 0).all() and depth[row["target"]].mean() < depth[0].max()

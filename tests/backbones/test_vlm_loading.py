"""Checkpoints that are not there, not whole, or not of a family: one clear error each, before anything is computed."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_vlms import MAKERS, save_checkpoint

from backbones.context import Inputs
from backbones.vlm.model import VLM
from perception.percept import Percept
from robot_io import UserError
from vla.recipe import Recipe

INPUTS = Inputs(1, (64, 64), 0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    save_checkpoint("smolvlm", folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    return Path(shutil.copytree(whole, tmp_path / "checkpoint"))


def load(**options: object) -> VLM:
    backbone = VLM(VLM.Config(dtype="float32", **options), INPUTS)
    backbone.load_pretrained()
    return backbone


def edit_weights(folder: Path, change: object) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, {"format": "pt"})


def test_a_checkpoint_that_is_nowhere_says_how_to_fetch_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket, "create_connection", lambda *_: pytest.fail("went to the network"))
    with pytest.raises(UserError) as caught:
        load(checkpoint="Qwen/Qwen3-VL-2B-Instruct")
    message = str(caught.value)
    assert "hf download Qwen/Qwen3-VL-2B-Instruct --local-dir models/Qwen3-VL-2B-Instruct" in message
    assert "backbone.checkpoint=models/Qwen3-VL-2B-Instruct" in message and "config.json" in message
    with pytest.raises(UserError, match=r"hf download google/gemma-3-4b-it .*accept its licence"):
        load(family="gemma3")
    with pytest.raises(UserError, match=r"hf download Qwen/Qwen2.5-VL-7B-Instruct "):
        load(checkpoint=str(tmp_path / "Qwen2.5-VL-7B-Instruct"))


@pytest.mark.parametrize(("file", "what"), [("config.json", "config.json"), ("processor_config.json", "processor"),
                                            ("tokenizer.json", "processor"), ("model.safetensors", "weights")])
def test_a_missing_file_is_named(folder: Path, file: str, what: str):
    (folder / file).unlink()
    with pytest.raises(UserError, match=f"cannot read its {what}.*in that folder"):
        load(checkpoint=str(folder))


def test_a_missing_weight_is_not_made_up(folder: Path):
    edit_weights(folder, lambda w: w.pop("model.text_model.layers.0.mlp.up_proj.weight"))
    with pytest.raises(UserError, match=r"'text_model.layers.0.mlp.up_proj.weight' is missing"):
        load(checkpoint=str(folder))


def test_a_weight_too_many_is_not_dropped(folder: Path):
    edit_weights(folder, lambda w: w.update({"model.text_model.layers.9.mlp.up_proj.weight": torch.zeros(2)}))
    with pytest.raises(UserError, match=r"layers.9.mlp.up_proj.weight' belongs nowhere"):
        load(checkpoint=str(folder))


def test_a_weight_of_another_shape_is_refused(folder: Path):
    edit_weights(folder, lambda w: w.update({"model.text_model.norm.weight": torch.zeros(5)}))
    with pytest.raises(UserError, match=r"text_model.norm.weight' is \(5,\), not \(32,\)"):
        load(checkpoint=str(folder))


def test_pickled_weights_are_never_read(folder: Path):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot read its weights"):
        load(checkpoint=str(folder))


def test_code_in_a_checkpoint_is_never_run(folder: Path):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("raise SystemExit('ran')")
    with pytest.raises(UserError, match=r"cannot read its config.json"):
        load(checkpoint=str(folder))


def test_a_family_of_no_entry(folder: Path):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": config["text_config"]["hidden_size"]}))
    with pytest.raises(UserError, match=r"of type 'llama'.*vla list backbones"):
        load(checkpoint=str(folder))


@pytest.mark.parametrize(("options", "message"), [
    ({}, "neither a family nor a checkpoint"),
    ({"family": "qwen3vl"}, "did you mean 'qwen3_vl'"),
    ({"family": "qwen3_vl", "config": {"model_type": "qwen3_vl"}}, "set backbone.weights=null"),
    ({"family": "qwen3_vl", "prompt": "do it"}, "say where the instruction goes"),
], ids=["nothing", "misspelt", "own architecture", "prompt"])
def test_options_that_make_no_sense(options: dict, message: str):
    with pytest.raises(UserError, match=message):
        Recipe.from_dict({"backbone": {"kind": "vlm", **options}, "head": {"kind": "tokens"}})


def test_the_wrong_family_for_a_checkpoint(whole: Path):
    with pytest.raises(UserError, match="family 'smolvlm'; expected 'gemma3'"):
        load(checkpoint=str(whole), family="gemma3")


def test_picture_sizes(whole: Path, tmp_path: Path):
    with pytest.raises(UserError, match="scales pictures to its own size"):
        load(checkpoint=str(whole), image_size=64)
    save_checkpoint("qwen3_vl", tmp_path)
    with pytest.raises(UserError, match=r"a multiple of 32 pixels.*image_size=64"):
        load(checkpoint=str(tmp_path), image_size=70)


def test_too_many_views_for_a_model_of_few_positions(tmp_path: Path):
    save_checkpoint("florence2", tmp_path)
    backbone = VLM(VLM.Config(checkpoint=str(tmp_path), dtype="float32"), Inputs(1, (64, 64), 0))
    with pytest.raises(UserError, match=r"positions.*at most 256"):
        backbone(Percept(images=torch.rand(1, 1, 3, 64, 64)), ["go " * 100], torch.zeros(1, 0))


def test_from_scratch_it_is_random_by_the_seed(whole: Path):
    config = MAKERS["smolvlm"]()[0]
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        made.append(load(checkpoint=str(whole), weights=None, config={**config, "text_config": {
            **config["text_config"], "num_hidden_layers": 1}}).state_dict())
    assert not any(".layers.1." in name and "text_model" in name for name in made[0])
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])
    assert any(not torch.equal(made[0][name], made[2][name]) for name in made[0])
    assert all(value.isfinite().all() for value in made[0].values())

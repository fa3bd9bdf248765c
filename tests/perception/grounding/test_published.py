"""Checkpoints: what is missing or wrong is named, with what to fetch."""

import json
from pathlib import Path

import pytest
import tiny_grounding
import torch

from perception.grounding import DETECTORS, SEGMENTERS
from perception.grounding.published import Published
from robot_io import UserError


@pytest.fixture
def owlv2(tmp_path) -> Path:
    return tiny_grounding.save("owlv2", tmp_path / "owlv2")


def open_owlv2(folder):
    return DETECTORS.load("owlv2")(DETECTORS.configure({"kind": "owlv2", "weights": str(folder)}))


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_missing_file_is_named(owlv2, file):
    (owlv2 / file).unlink()
    with pytest.raises(UserError, match=rf"has no {file}.*hf download google/owlv2-base-patch16-ensemble {file} --local-dir"):
        open_owlv2(owlv2)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=r"there is no such folder.*hf download google/owlv2"):
        open_owlv2(tmp_path / "nowhere")


def test_a_hub_id_that_cannot_be_reached_says_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"someone/never-downloaded.*hf download google/owlv2.*--local-dir"):
        open_owlv2("someone/never-downloaded")


def test_another_models_checkpoint_is_refused(owlv2):
    with pytest.raises(UserError, match=r"it is a 'owlv2' checkpoint; expected 'sam'"):
        SEGMENTERS.load("sam")(SEGMENTERS.configure({"kind": "sam", "weights": str(owlv2)}))


def test_weights_of_another_size_are_refused(owlv2):
    config = json.loads((owlv2 / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] = 2
    (owlv2 / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"tensors are missing or of another shape, such as"):
        open_owlv2(owlv2)


def test_a_published_model_moves_but_is_not_saved():
    module = torch.nn.Sequential(Published(torch.nn.Linear(2, 2)), torch.nn.Linear(2, 2))
    assert set(module.state_dict()) == {"1.weight", "1.bias"}
    assert module.to(torch.float64)[0].model.weight.dtype == torch.float64
    assert not module.train()[0].model.training

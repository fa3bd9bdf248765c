"""π0's reading half: parity with transformers' prefix, what it depends on, published weights in both layouts, adapters."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from toy_pi0 import ARCHITECTURE, IMAGE, INPUTS, OUTPUT, PROMPTS, halves, options, save_tokenizer, whole

from backbones.pi0 import PI0, pad_to_square
from backbones.pi0_checkpoint import load
from backbones.vlm.published import OTHERS
from heads.pi0 import PI0 as Head
from perception.percept import Percept
from robot_io import UserError


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def model():
    return whole()


@pytest.fixture(scope="module")
def backbone(model, tokenizer: Path) -> PI0:
    return halves(model, tokenizer)[0]


def pictures(batch: int = 2, views: int = 2) -> Percept:
    return Percept(images=torch.rand(batch, views, 3, 28, 28, generator=torch.Generator().manual_seed(1)))


STATE = torch.linspace(-1, 1, 8).reshape(2, 4)


def test_layers_equal_transformers_prefix_with_an_absent_camera_masked(model, backbone: PI0):
    """Two of three cameras there: for transformers a masked slot, for us no slot at all."""
    percept = pictures()
    context = backbone(percept, PROMPTS, STATE)
    ids, real = backbone.encode(PROMPTS)
    ids = torch.cat([torch.full((2, 8), IMAGE), ids], 1)
    mask = torch.cat([torch.ones(2, 8, dtype=torch.bool), real], 1)
    assert torch.equal(context.mask, mask)
    pixels = torch.cat([2 * percept.images - 1, torch.full((2, 1, 3, 28, 28), -1.0)], 1)
    present = torch.tensor([[True, True, False]] * 2)
    expected = model.model.vlm(
        inputs_embeds=model.model.embed_prefix(ids, pixels, present), attention_mask=mask.long(),
        position_ids=mask.cumsum(1) - 1, token_type_ids=torch.zeros(2, ids.shape[1]), use_cache=True)  # fmt: skip
    assert len(context.layers) == 2
    for ours, theirs in zip(context.layers, expected.past_key_values.layers, strict=True):
        torch.testing.assert_close(ours[0], theirs.keys, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours[1], theirs.values, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(context.hidden[mask], expected.last_hidden_state[mask], atol=1e-5, rtol=1e-5)


def test_the_prompt_is_bos_words_newline_and_padding(backbone: PI0):
    ids, real = backbone.encode(["pick_the red\ncube".replace("_", " ").replace("\n", " "), "pick"])
    assert ids.tolist() == [[2, 5, 7, 8, 10, 4], [2, 5, 4, 0, 0, 0]]
    assert real.sum(1).tolist() == [6, 3]


def test_a_longer_neighbour_in_the_batch_changes_nothing(backbone: PI0):
    percept = pictures()
    both = backbone(percept, ["pick", PROMPTS[1]], STATE)
    alone = backbone(Percept(images=percept.images[:1]), ["pick"], STATE[:1])
    real = both.mask[0]
    for ours, theirs in zip(both.layers, alone.layers, strict=True):
        torch.testing.assert_close(ours[0][0][:, real], theirs[0][0], atol=1e-5, rtol=1e-4)


def test_features_seen_ahead_of_time_give_the_same_layers(backbone: PI0):
    percept = pictures()
    ahead = backbone.see(percept).replace(images=None)
    assert torch.equal(backbone(ahead, PROMPTS, STATE).layers[-1][1], backbone(percept, PROMPTS, STATE).layers[-1][1])


@pytest.mark.parametrize("change", ["instruction", "view", "text", "tokens"])
def test_the_layers_depend_on(tokenizer: Path, change: str):
    torch.manual_seed(0)
    backbone = PI0(PI0.Config(**options(tokenizer=str(tokenizer), dtype="float32")), replace(INPUTS, token_dim=5)).eval()
    mask = torch.tensor([[True, False]] * 2)
    percept, words = pictures().replace(tokens=torch.zeros(2, 2, 5), token_mask=mask), list(PROMPTS)
    changed = percept
    if change == "instruction":
        words = ["pick up the blue cube", PROMPTS[1]]
    elif change == "view":
        changed = percept.replace(images=percept.images.clone().index_fill_(1, torch.tensor([1]), 0.0))
    elif change == "text":
        changed = percept.replace(text=["red", "blue"])
    else:
        changed = percept.replace(tokens=torch.ones(2, 2, 5))
    before, after = (backbone(p, w, STATE).hidden[0] for p, w in ((percept, PROMPTS), (changed, words)))
    assert after.shape != before.shape or (after - before)[:8].abs().max() > 1e-5


def test_masked_soft_tokens_are_not_read(tokenizer: Path):
    torch.manual_seed(0)
    backbone = PI0(PI0.Config(**options(tokenizer=str(tokenizer), dtype="float32")), replace(INPUTS, token_dim=5)).eval()
    percept = pictures().replace(tokens=torch.zeros(2, 2, 5), token_mask=torch.tensor([[True, False]] * 2))
    other = percept.replace(tokens=torch.tensor([0.0, 9.0])[None, :, None].expand(2, 2, 5))
    real = backbone(percept, PROMPTS, STATE).mask
    torch.testing.assert_close(backbone(percept, PROMPTS, STATE).hidden[real], backbone(other, PROMPTS, STATE).hidden[real])


def test_pictures_are_padded_not_stretched():
    wide = torch.ones(1, 3, 10, 20)
    padded = pad_to_square(wide, 28)
    assert padded.shape == (1, 3, 28, 28)
    assert torch.allclose(padded[..., 7:21, :], torch.ones(1))
    assert padded[..., :7, :].abs().max() == padded[..., 21:, :].abs().max() == 0
    assert torch.equal(pad_to_square(padded, 28), padded)


def test_lora_alone_gets_a_gradient(tokenizer: Path):
    from peft import LoraConfig, get_peft_model

    backbone, head = halves(whole(), tokenizer)
    tuned = get_peft_model(backbone, LoraConfig(r=2, target_modules=backbone.lora_targets))
    loss = head.loss(tuned(pictures(), PROMPTS, STATE), torch.zeros(2, 5, 3), torch.ones(2, 5, dtype=torch.bool)).total
    loss.backward()
    trained = {name for name, p in tuned.named_parameters() if p.grad is not None}
    assert trained and all(".lora_" in name for name in trained)
    for part in ("language_model.layers.0.self_attn.q_proj", "multi_modal_projector", "vision_tower.encoder.layers.1.mlp.fc1"):
        assert any(part in name for name in trained), part


def test_published_size_on_the_meta_device(tokenizer: Path):
    """3.24 B parameters are read of π0's 3.50 B: the expert's word embeddings are not kept (arXiv 2410.24164 says 3.3 B)."""
    with torch.device("meta"):
        backbone = PI0(PI0.Config(checkpoint=None, tokenizer=str(tokenizer)), replace(INPUTS, token_dim=256))
        head = Head(Head.Config(checkpoint=None), replace(OUTPUT, context_dim=2048))
    vlm, expert = (sum(p.numel() for p in half.parameters()) for half in (backbone.vlm, head))
    assert (vlm, expert) == (2_923_335_408, 314_713_120)
    linear = sum(m.weight.numel() for m in backbone.vlm.language_model.modules() if isinstance(m, nn.Linear))
    assert (vlm, linear) == next((p.parameters, p.linear) for p in OTHERS if p.family == "pi0")
    new = sum(p.numel() for p in backbone.parameters()) - vlm
    assert new < 0.01 * vlm


def publish(model, folder: Path, layout: str) -> Path:
    """A checkpoint in `folder`, as transformers saves it or with the names of LeRobot's port."""
    model.save_pretrained(folder)
    if layout == "lerobot":
        names = {
            "model.vlm.vision_tower.": "paligemma_with_expert.paligemma.model.vision_tower.vision_model.",
            "model.vlm.language_model.embed_tokens.": "paligemma_with_expert.paligemma.lm_head.",
            "model.vlm.": "paligemma_with_expert.paligemma.model.",
            "model.dit.embed_tokens.": "paligemma_with_expert.gemma_expert.lm_head.",
            "model.dit.": "paligemma_with_expert.gemma_expert.model.",
            "embed_action_time.": "",
        }
        renamed = {}
        for name, tensor in model.state_dict().items():
            ours, theirs = next(((a, b) for a, b in names.items() if name.startswith(a)), ("", ""))
            renamed[theirs + name.removeprefix(ours)] = tensor.clone()
        save_file({f"model.{name}": tensor for name, tensor in renamed.items()}, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("layout", ["transformers", "lerobot"])
def test_both_halves_load_a_published_checkpoint(model, tokenizer: Path, tmp_path: Path, layout: str):
    folder = publish(model, tmp_path / "pi0", layout)
    (folder / "policy_preprocessor_step_5_normalizer_processor.safetensors").write_bytes(b"not read")
    (folder / "tokenizer.json").write_bytes((tokenizer / "tokenizer.json").read_bytes())
    named = {"checkpoint": str(folder), "architecture": ARCHITECTURE}
    backbone = PI0(PI0.Config(**named, dtype="float32"), INPUTS)
    head = Head(Head.Config(**named), OUTPUT)
    backbone.load_pretrained()
    head.load_pretrained()
    expected_backbone, expected_head = halves(model, tokenizer)
    for ours, theirs in ((backbone, expected_backbone), (head, expected_head)):
        assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())


@pytest.mark.parametrize(("spoil", "words"), [
    ("left over", "'stranger' belongs nowhere"), ("missing", "'action_out_proj.bias' is missing"),
    ("shape", "'action_out_proj.bias' is"), ("heads", "num_attention_heads is 4, not 2"), ("kind", "it is 'pi05'"),
    ("no config", "config.json is missing"), ("no weights", r"no model\*.safetensors"),
])  # fmt: skip
def test_a_checkpoint_that_is_not_wholly_this_pi0_is_refused(model, tokenizer: Path, tmp_path: Path, spoil: str, words: str):
    folder = publish(model, tmp_path / "pi0", "transformers")
    config, weights = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    key = next(name for name in weights if name.endswith("action_out_proj.bias"))
    if spoil == "left over":
        weights["stranger"] = torch.zeros(1)
    elif spoil == "missing":
        del weights[key]
    elif spoil == "shape":
        weights[key] = torch.zeros(1)
    elif spoil == "heads":
        config["dit_config"]["num_attention_heads"] = 4
    elif spoil == "kind":
        config["model_type"] = "pi05"
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    if spoil.startswith("no "):
        (folder / {"no config": "config.json", "no weights": "model.safetensors"}[spoil]).unlink()
    backbone, _ = halves(model, tokenizer)
    with pytest.raises(UserError, match=words):
        load(str(folder), backbone.sizes, {"model.vlm": backbone.vlm}, "backbone.checkpoint")


def test_a_checkpoint_that_is_nowhere_says_what_to_fetch(tokenizer: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    backbone = PI0(PI0.Config(**options(tokenizer=str(tokenizer))), INPUTS)
    with pytest.raises(UserError, match=r"hf download nobody/pi0 --local-dir DIR.*backbone\.checkpoint=DIR"):
        load("nobody/pi0", backbone.sizes, {"model.vlm": backbone.vlm}, "backbone.checkpoint")


def test_mistakes_are_refused_before_anything_is_built(tokenizer: Path, tmp_path: Path):
    words = str(tokenizer)
    with pytest.raises(UserError, match="a state of 9 numbers; expected at most 8"):
        PI0(PI0.Config(**options(tokenizer=words)), replace(INPUTS, state_dim=9))
    with pytest.raises(UserError, match="it has no chunk_sise"):
        PI0(PI0.Config(**options(tokenizer=words, architecture={"chunk_sise": 3})), INPUTS)
    with pytest.raises(UserError, match=r"no such file.*tokenizer\.json of google/paligemma"):
        PI0(PI0.Config(**options(tokenizer=str(tmp_path))), INPUTS)
    with pytest.raises(UserError, match="51 tokens; expected at most 48"):
        PI0(PI0.Config(**options(tokenizer=words)), INPUTS).encode(["pick " * 49])

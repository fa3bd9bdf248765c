"""`kind: vlm`, every family: the real transformers class and processor at a tiny size, from a checkpoint on disk."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from tiny_vlms import MAKERS, save_checkpoint
from torch import Tensor, nn

from backbones.context import Context, Inputs
from backbones.vlm.families import FAMILIES
from backbones.vlm.model import VLM
from backbones.vlm.prompts import encode
from perception.percept import Percept
from vla.recipe import Lora, Tuning
from vla.tuning import is_adapter, plain_name, tune

SIDE = {"qwen2_5_vl": 56, "qwen3_vl": 64}
"""Pictures that need no scaling, so that a comparison sees the same pixels."""
SHORT, LONG = "grasp it", "pick up the small red cup on the left"


@dataclass(frozen=True)
class Made:
    """A checkpoint's folder, the transformers model that was saved there, and backbones made of it so far."""

    name: str
    folder: Path
    plain: nn.Module
    backbones: dict[str, VLM] = field(default_factory=dict)

    def backbone(self, **options: object) -> VLM:
        """One of your own, with two queries that are no longer zero."""
        key = str(options)
        if key not in self.backbones:
            size = SIDE.get(self.name)
            options = {"checkpoint": str(self.folder), "dtype": "float32", "image_size": size, "queries": 2} | options
            torch.manual_seed(1)
            backbone = VLM(VLM.Config(**options), Inputs(2, (64, 64), state_dim=3, token_dim=5))
            backbone.load_pretrained()
            nn.init.normal_(backbone.query, std=0.5)
            self.backbones[key] = backbone.eval()
        return deepcopy(self.backbones[key])

    def images(self, batch: int = 2, views: int = 2) -> Tensor:
        side = SIDE.get(self.name, 64)
        return torch.rand(batch, views, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    made: dict[str, Made] = {}

    def get(name: str) -> Made:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            made[name] = Made(name, folder, save_checkpoint(name, folder))
        return made[name]

    return get


@pytest.fixture(params=list(MAKERS))
def made(request: pytest.FixtureRequest, checkpoint: Callable[[str], Made]) -> Made:
    return checkpoint(request.param)


def percept(made: Made, batch: int = 2, views: int = 2) -> Percept:
    random = torch.Generator().manual_seed(2)
    mask = torch.ones(batch, 3, dtype=torch.bool)
    mask[-1, 1] = False
    return Percept(images=made.images(batch, views), tokens=torch.randn(batch, 3, 5, generator=random), token_mask=mask)


def ask(backbone: nn.Module, seen: Percept, words: list[str]) -> Context:
    state = torch.linspace(-1, 1, 3).expand(len(words), -1)
    with torch.no_grad():
        return backbone(seen, words, state)


def test_every_family_is_tried():
    types = {MAKERS[name]()[0]["model_type"] for name in MAKERS}
    assert types == {kind for family in FAMILIES.values() for kind in family.model_types} - {"kosmos_2"}


def test_hidden_states_equal_the_plain_models(made: Made):
    """The prompt's hidden states are those of the checkpoint's own class, asked directly through its own processor: nothing that
    comes after the prompt changes them."""
    backbone = made.backbone()
    views = 1 if made.name in ("florence2", "kosmos2") else 2  # their processors know one picture
    seen = percept(made, 1, views)
    images = seen.images
    prompt = backbone.family.prompt.replace("{instruction}", LONG)
    processor = backbone.processor
    if processor.chat_template:
        content = [*({"type": "image"} for _ in range(views)), {"type": "text", "text": prompt}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False)
    else:
        text = "<image>" * views + prompt if made.name.startswith("paligemma") else prompt
    options = {"idefics3": {"do_image_splitting": False, "size": {"longest_edge": 32}}, "internvl": {"crop_to_patches": False}}
    options |= {"smolvlm": options["idefics3"]} | {name: {"do_resize": False} for name in SIDE}
    inputs = processor(images=[list(images[0])] if views > 1 else list(images[0]), text=[text], return_tensors="pt",
                       images_kwargs={"do_rescale": False, **options.get(made.name, {})})
    inputs.pop("labels", None)
    with torch.no_grad():
        expected = made.plain(**inputs, output_hidden_states=True)
    reference = (expected.encoder_hidden_states if made.name == "florence2" else expected.hidden_states)[-1]
    context = ask(backbone, seen, [LONG])
    length = reference.shape[1]
    assert context.mask.shape[1] > length
    torch.testing.assert_close(context.hidden[:, :length], reference, rtol=1e-4, atol=1e-4)


def test_readout_is_the_end_of_the_sequence_and_reads_all_of_it(made: Made):
    backbone = made.backbone()
    seen = percept(made)
    context = ask(backbone, seen, [LONG, LONG])
    assert context.readout.shape == (2, 2, backbone.dim) and context.readout.dtype == torch.float32
    assert context.mask.shape == context.hidden.shape[:2]
    torch.testing.assert_close(context.readout[0], context.hidden[0, -2:])  # sample 0 has no padding
    mirrored = torch.cat([seen.images[:, :1], seen.images[:, 1:].flip(-1)], 1)
    changed = {
        "words": ask(backbone, seen, [SHORT, LONG]),
        "second view": ask(backbone, seen.replace(images=mirrored), [LONG, LONG]),
        "tokens": ask(backbone, seen.replace(tokens=seen.tokens + 1), [LONG, LONG]),
        "text": ask(backbone, seen.replace(text=["a cup", "a cup"]), [LONG, LONG]),
    }
    for what, other in changed.items():
        assert (other.readout[0] - context.readout[0]).abs().max() > 1e-4, what


def test_a_masked_token_is_not_there(made: Made):
    backbone = made.backbone()
    seen = percept(made)
    tokens = seen.tokens.clone()
    tokens[1, 1] = 100
    assert torch.equal(ask(backbone, seen, [LONG] * 2).readout, ask(backbone, seen.replace(tokens=tokens), [LONG] * 2).readout)


def test_padding_changes_nothing(made: Made):
    """Left, right, none, a little (a longer neighbour) or much of it."""
    backbone = made.backbone()
    seen = percept(made)
    alone = ask(backbone, Percept(images=seen.images[:1], tokens=seen.tokens[:1], token_mask=seen.token_mask[:1]), [SHORT])
    for side in ("left", "right"):
        backbone.processor.tokenizer.padding_side = side
        for neighbour in (SHORT, LONG, LONG * 3):
            readout = ask(backbone, seen, [SHORT, neighbour]).readout
            torch.testing.assert_close(readout[:1], alone.readout, rtol=1e-4, atol=1e-4)


def test_prompts_are_packed_whatever_side_the_processor_pads(made: Made):
    backbone = made.backbone()
    prompts = []
    for side in ("left", "right"):
        backbone.processor.tokenizer.padding_side = side
        prompts.append(encode(backbone.processor, backbone.family, made.images(), [SHORT, LONG]))
    left, right = prompts
    assert not left.mask.all() and torch.equal(left.mask, right.mask) and left.mask[:, 0].all()
    for name, column in left.columns.items():
        assert torch.equal(column[left.mask], right.columns[name][right.mask]), name


def test_lora_trains_adapters_and_what_is_new_and_nothing_else(made: Made):
    backbone = made.backbone()
    plain = ask(backbone, percept(made), [SHORT, LONG]).readout
    tuned = tune(backbone, Tuning(mode="lora", vision="lora", lora=Lora(rank=2)))
    readout = tuned(percept(made), [SHORT, LONG], torch.linspace(-1, 1, 3).expand(2, -1)).readout
    torch.testing.assert_close(readout, plain, rtol=1e-4, atol=1e-4)  # adapters begin as identity
    readout.square().sum().backward()
    for name, parameter in tuned.named_parameters():
        new = plain_name(name).split(".")[0] in backbone.new_modules
        assert parameter.requires_grad == (is_adapter(name) or new), name
        assert parameter.requires_grad or parameter.grad is None, name
    moved = {plain_name(name) for name, p in tuned.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert moved >= {"query", "state_projection.weight", "token_projection.weight"}
    for part in (backbone.vision, f"model.{backbone.family.language}"):
        assert any(name.startswith(part) and ".lora_B." in name for name in moved), f"no gradient reaches {part}"


def test_lora_reaches_every_linear_layer(made: Made):
    backbone = made.backbone()
    chosen = {name for name, _ in backbone.named_modules() if re.fullmatch(backbone.lora_targets, name)}
    modules = dict(backbone.model.named_modules(prefix="model"))
    linear = {name for name, module in modules.items() if isinstance(module, nn.Linear)}
    pointwise = {name for name in chosen - linear if modules[name].kernel_size == (1, 1)}  # a linear layer over channels
    assert chosen == linear | pointwise
    assert (len(pointwise) > 0) == (made.name == "fastvlm")


def test_frozen_vision_gets_no_adapter(checkpoint: Callable[[str], Made]):
    backbone = checkpoint("qwen3_vl").backbone()
    tuned = tune(backbone, Tuning(mode="lora", vision="frozen", lora=Lora(rank=2)))
    inside = [name for name, p in tuned.named_parameters() if f".{backbone.vision}." in name and p.requires_grad]
    assert inside == []


def test_rebuilt_from_its_assets_it_is_the_same_bit_by_bit(made: Made, tmp_path: Path):
    backbone = made.backbone()
    backbone.save_assets(tmp_path / "assets")
    assert {file.suffix for file in (tmp_path / "assets").rglob("*") if file.is_file()} <= {".json", ".jinja", ".txt"}
    gone = backbone.config.model_copy(update={"checkpoint": str(tmp_path / "gone")})
    again = VLM(gone, backbone.inputs, assets=tmp_path / "assets").eval()
    again.load_state_dict(backbone.state_dict())
    seen = percept(made)
    ours, theirs = (ask(b, seen, [SHORT, LONG]) for b in (backbone, again))
    assert torch.equal(ours.hidden, theirs.hidden) and torch.equal(ours.readout, theirs.readout)


def test_cached_features_stand_for_pictures(made: Made):
    """What `see` made earlier, without the pictures, gives what the pictures give."""
    backbone = made.backbone()
    seen = percept(made)
    with torch.no_grad():
        features = backbone.see(seen).features
    assert features.shape[:2] == (2, 2)
    cached = ask(backbone, seen.replace(images=None, features=features), [SHORT, LONG])
    torch.testing.assert_close(cached.readout, ask(backbone, seen, [SHORT, LONG]).readout, rtol=1e-4, atol=1e-4)


def test_gradient_checkpointing_changes_no_gradient(made: Made):
    grads = []
    for checkpointing in (False, True):
        backbone = made.backbone().train()
        backbone.config = backbone.config.model_copy(update={"gradient_checkpointing": checkpointing})
        backbone._prepare()
        assert backbone.model.is_activation_checkpointing == checkpointing
        for module in backbone.modules():  # dropout would differ from run to run
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            for name in ("dropout", "layerdrop", "activation_dropout", "attention_dropout", "drop_path", "drop_prob"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, 0.0)
        backbone(percept(made), [SHORT, LONG], torch.zeros(2, 3)).readout.square().sum().backward()
        grads.append({name: p.grad for name, p in backbone.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys() and len(grads[0]) > 20
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, rtol=1e-3, atol=1e-4, msg=name)


def test_bfloat16(made: Made):
    backbone = made.backbone(dtype="bfloat16")
    assert {p.dtype for p in backbone.model.parameters()} == {torch.bfloat16} and backbone.query.dtype == torch.float32
    readout = ask(backbone, percept(made), [SHORT, LONG]).readout
    assert readout.dtype == torch.float32 and readout.isfinite().all()


def test_state_as_words(checkpoint: Callable[[str], Made]):
    made = checkpoint("paligemma")
    backbone = made.backbone(state="text")
    assert backbone.state_projection is None
    seen = percept(made)
    words = backbone._words(seen, [SHORT, SHORT], torch.tensor([[-9.0, 0.0, 3.0], [3.0, -3.0, 1.0]]))
    assert words == [f"{SHORT} State: 0 128 255", f"{SHORT} State: 255 0 170"]


def test_without_state(checkpoint: Callable[[str], Made]):
    made = checkpoint("paligemma")
    backbone = made.backbone(state="none")
    seen = percept(made)
    with torch.no_grad():
        a, b = (backbone(seen, [SHORT, LONG], state).readout for state in (torch.zeros(2, 3), torch.ones(2, 3)))
    assert torch.equal(a, b)


def test_one_view_for_every_family(made: Made):
    context = ask(made.backbone(), percept(made, views=1), [SHORT, LONG])
    assert context.readout.isfinite().all()

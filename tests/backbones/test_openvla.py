"""OpenVLA against a plain composition of timm and transformers, and its weights in the published layout."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from toy_openvla import PATCHES, PUBLISHED, oft, openvla, percept, publish, published_tensors, tokenizer_folder

from backbones import BACKBONES
from backbones.context import Inputs
from backbones.vlm.published import OTHERS
from robot_io import UserError

SAY = ["pick up the cup", "Put the cup away and pick it up"]
NO_STATE = torch.zeros(2, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tokenizer_folder(tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def model(folder):
    return openvla(folder)


def test_the_published_size_is_that_of_the_hub():
    made = BACKBONES.load("openvla")
    with torch.device("meta"):
        backbone = made(made.Config(), Inputs(views=1, image_size=(224, 224), state_dim=0))
    # The hub's model.safetensors.index.json: 15,082,474,368 bytes of bfloat16.
    assert 2 * sum(p.numel() for p in backbone.parameters()) == 15_082_474_368
    linear = sum(m.weight.numel() for m in backbone.vlm.language_model.get_decoder().modules() if isinstance(m, nn.Linear))
    assert {(7_541_237_184, linear)} == {(p.parameters, p.linear) for p in OTHERS if p.family.startswith("openvla")}
    assert {p.dtype for p in backbone.parameters()} == {torch.bfloat16}
    assert (backbone.dim, backbone.vlm.vision_backbone.dim, backbone.vlm.projector.fc1.out_features) == (4096, 2176, 8704)
    assert backbone.vlm.vision_backbone.featurizer.patch_embed.num_patches == 256


def test_little_of_it_is_new_at_the_published_size():
    """The projections of state and tokens; the action queries are none: zeros are read at their places (arXiv 2502.19645)."""
    made = BACKBONES.load("openvla_oft")
    with torch.device("meta"):
        backbone = made(made.Config(queries=56), Inputs(views=2, image_size=(224, 224), state_dim=8, token_dim=1024))
    new = sum(p.numel() for name, p in backbone.named_parameters() if name.startswith(backbone.new_modules))
    assert 0 < new < 0.01 * sum(p.numel() for p in backbone.parameters())


def test_the_prompt_is_openvlas(folder):
    from backbones.openvla.prompt import encode, sentence

    assert sentence("Pick up the Cup") == "In: What action should the robot take to pick up the cup?\nOut:"
    ids, mask = encode(SAY, folder / "tokenizer.json")
    assert ids[0, mask[0]].tolist()[-3:] == [13, 4, 29871]  # "Out", ":", and the space that training had there
    assert mask.sum(1).tolist() == [17, 21]
    assert 1 not in ids  # `<s>` stands before the patches


def test_a_foreign_tokenizer_is_refused(tmp_path):
    from tokenizers import Tokenizer, models

    from backbones.openvla.prompt import encode

    Tokenizer(models.WordLevel({"<unk>": 50_000}, unk_token="<unk>")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match="Llama 2's vocabulary"):
        encode(["pick"], tmp_path / "tokenizer.json")


def plain_embeddings(model, folder, image, instruction):
    """`[1, L, D]`: the sequence as OpenVLA's paper and configuration describe it, of library calls alone."""
    from backbones.openvla.prompt import encode

    vlm, settings = model.vlm, model.config.vision
    patches = []
    towers = vlm.vision_backbone
    for tower, norm in ((towers.featurizer, settings.first), (towers.fused_featurizer, settings.second)):
        pixels = (image - torch.tensor(norm.mean).view(3, 1, 1)) / torch.tensor(norm.std).view(3, 1, 1)
        patches.extend(tower.get_intermediate_layers(pixels[None], n={len(tower.blocks) - 2}))
    hidden, projector = torch.cat(patches, -1), vlm.projector
    hidden = projector.fc3(F.gelu(projector.fc2(F.gelu(projector.fc1(hidden)))))
    ids, mask = encode([instruction], folder / "tokenizer.json")
    words = vlm.language_model.model.embed_tokens(torch.cat([torch.tensor([[1]]), ids[mask][None]], 1))
    return torch.cat([words[:, :1], hidden, words[:, 1:]], 1)


def test_hidden_states_equal_timm_and_llama_composed_whatever_the_padding(model, folder):
    seen = percept(2)
    context = model(seen, SAY, NO_STATE)
    assert not context.mask[0].all() and context.mask[1].all()
    for b, instruction in enumerate(SAY):
        embeds = plain_embeddings(model, folder, seen.images[b, 0], instruction)
        assert embeds.shape[1] == 1 + PATCHES + [17, 21][b]
        plain = model.vlm.language_model(inputs_embeds=embeds, output_hidden_states=True)
        torch.testing.assert_close(context.hidden[b, context.mask[b]], plain.hidden_states[-1][0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(context.continuation.logits(context.readout)[b, 0], plain.logits[0, -1], atol=1e-5, rtol=1e-5)


def test_greedy_ids_are_those_of_transformers_generate(model, folder):
    seen = percept(2)
    found = model(seen, SAY, NO_STATE).continuation.generate(14, lambda logits: logits.argmax(-1))
    for b, instruction in enumerate(SAY):
        embeds = plain_embeddings(model, folder, seen.images[b, 0], instruction)
        expected = model.vlm.language_model.generate(inputs_embeds=embeds, attention_mask=torch.ones(embeds.shape[:2]),
                                                     min_new_tokens=14, max_new_tokens=14, do_sample=False)
        assert found[b].tolist() == expected[0].tolist()


def test_scores_are_the_logits_of_one_pass_over_everything(model, folder):
    seen, ids = percept(2), torch.randint(31744, 32000, (2, 5), generator=torch.Generator().manual_seed(0))
    scores = model(seen, SAY, NO_STATE).continuation.score(ids)
    for b, instruction in enumerate(SAY):
        embeds = plain_embeddings(model, folder, seen.images[b, 0], instruction)
        whole = torch.cat([embeds, model.vlm.language_model.model.embed_tokens(ids[b:b + 1, :-1])], 1)
        expected = model.vlm.language_model(inputs_embeds=whole).logits[0, -5:]
        torch.testing.assert_close(scores[b], expected, atol=1e-5, rtol=1e-5)


def test_a_continuation_can_be_asked_again_and_again(model):
    going_on = model(percept(2), SAY, NO_STATE).continuation
    ids = torch.full((2, 3), 31800)
    first = going_on.score(ids)
    going_on.generate(4, lambda logits: logits.argmax(-1))
    doubled = going_on.repeat(2)
    torch.testing.assert_close(doubled.score(ids.repeat_interleave(2, 0)), first.repeat_interleave(2, 0))
    assert torch.equal(going_on.score(ids), first)


def test_gradient_checkpointing_changes_neither_scores_nor_gradients(folder):
    seen, ids = percept(2), torch.tensor([[31744, 31999, 31800]] * 2)
    results = []
    for checkpointing in (False, True):
        model = openvla(folder, gradient_checkpointing=checkpointing).train()
        scores = model(seen, SAY, NO_STATE).continuation.score(ids)
        scores.square().mean().backward()
        results.append([scores.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    assert len(results[0]) == len(results[1]) > 60
    for plain, checkpointed in zip(*results, strict=True):
        torch.testing.assert_close(plain, checkpointed, atol=1e-6, rtol=1e-4)


def test_without_a_cache_decoding_says_what_to_do(folder):
    model = openvla(folder, gradient_checkpointing=True).train()
    with pytest.raises(UserError, match=r"policy\.eval"):
        model(percept(2), SAY, NO_STATE).continuation.generate(2, lambda logits: logits.argmax(-1))


def test_features_seen_ahead_of_time_give_the_same_context(model):
    seen = percept(2)
    ahead = model.see(seen)
    assert ahead.features.shape == (2, 1, PATCHES, 40)
    torch.testing.assert_close(model(ahead.replace(images=None), SAY, NO_STATE).hidden, model(seen, SAY, NO_STATE).hidden)


def test_a_picture_of_another_size_is_scaled(model):
    large = percept(1).images.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert model.see(percept(1).replace(images=large)).features.shape == (1, 1, PATCHES, 40)


def test_words_text_and_tokens_of_the_percept_matter_and_masked_tokens_do_not(folder):
    model, seen = openvla(folder, token_dim=5), percept(1)
    tokens = torch.randn(1, 2, 5, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[True, False]])

    def read(say="pick up the cup", text=(), tokens=tokens):
        return model(seen.replace(text=list(text), tokens=tokens, token_mask=mask), [say], NO_STATE[:1]).readout

    assert not torch.allclose(read(), read("put up the cup"))
    assert not torch.allclose(read(), read(text=["and put it away"]))
    assert not torch.allclose(read(), read(tokens=tokens * 2))
    torch.testing.assert_close(read(), read(tokens=tokens * torch.tensor([1.0, 9.0])[:, None]))


@pytest.mark.parametrize("inputs, remedy", [({"views": 2}, "openvla_oft"), ({"state_dim": 3}, r"data\.state=false")])
def test_what_its_weights_do_not_know_is_refused(folder, inputs, remedy):
    from backbones.openvla.openvla import OpenVLA

    with pytest.raises(UserError, match=remedy):
        OpenVLA(OpenVLA.Config(weights=None), Inputs(**{"views": 1, "image_size": (28, 28), "state_dim": 0, **inputs}))


@pytest.mark.parametrize("make", [openvla, oft])
def test_lora_alone_is_trained(folder, make):
    from vla.recipe import Tuning
    from vla.tuning import tune

    model = make(folder)
    views, state = (2, torch.zeros(1, 3)) if make is oft else (1, torch.zeros(1, 0))
    tuned = tune(model, Tuning(mode="lora", vision="lora", lora={"rank": 2, "alpha": 2}))
    context = tuned(percept(1, views), SAY[:1], state)
    context.readout.square().mean().backward()
    new = {name for name, p in tuned.named_parameters() if p.requires_grad and ".lora_" not in name}
    assert all("proprio_projector" in name for name in new) and bool(new) == (make is oft)
    got = {name for name, p in tuned.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    for part in (".featurizer.blocks.1", "fused_featurizer.blocks.1", "projector.fc1", "layers.0.mlp.up", "layers.1.self_attn.v"):
        assert any(part in name and "lora_B" in name for name in got), part


def test_a_saved_model_is_rebuilt_without_the_hub(folder, tmp_path):
    model = openvla(folder)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    model.save_assets(tmp_path / "assets")
    again = openvla(folder, assets=tmp_path / "assets", weights="nobody/nothing", tokenizer=None)
    again.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(again(percept(2), SAY, NO_STATE).hidden, model(percept(2), SAY, NO_STATE).hidden)


def published(tmp_path, folder, shards=1, seed=5, **config):
    """A model, and a folder with its weights as they would be on the hub."""
    model = openvla(folder, seed)
    return model, publish(tmp_path / "hub", published_tensors(model.vlm), shards, **config)


@pytest.mark.parametrize("shards", [1, 3])
def test_published_weights_load_by_name(folder, tmp_path, shards):
    model, hub = published(tmp_path, folder, shards)
    assert {name.replace("scale_factor", "gamma") for name in PUBLISHED} == set(model.vlm.state_dict())
    loaded = openvla(folder, weights=str(hub), tokenizer=None)
    loaded.load_pretrained()
    assert torch.equal(loaded(percept(2), SAY, NO_STATE).hidden, model(percept(2), SAY, NO_STATE).hidden)


@pytest.mark.parametrize("change, complaint", [
    (lambda t: t.update(extra=torch.zeros(1)), "'extra' belongs nowhere"),
    (lambda t: t.pop("projector.fc2.bias"), "'projector.fc2.bias' is missing"),
    (lambda t: t.update({"projector.fc2.bias": torch.zeros(3)}), r"'projector.fc2.bias' is \(3,\)"),
    (lambda t: t.update({"vision_backbone.featurizer.blocks.0.ls3.scale_factor": torch.zeros(24)}), "ls3"),
], ids=["left over", "missing", "shape", "left over in a tower"])
@pytest.mark.parametrize("shards", [1, 2])
def test_a_key_too_many_or_too_few_is_an_error(folder, tmp_path, change, complaint, shards):
    tensors = published_tensors(openvla(folder).vlm)
    change(tensors)
    hub = publish(tmp_path / "hub", tensors, shards)
    with pytest.raises(UserError, match=complaint):
        openvla(folder, weights=str(hub)).load_pretrained()


def test_a_missing_or_damaged_shard_is_named(folder, tmp_path):
    _, hub = published(tmp_path, folder, shards=2)
    shard = hub / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(UserError, match=r"00002-of-00002.*damaged"):
        openvla(folder, weights=str(hub)).load_pretrained()
    shard.unlink()
    with pytest.raises(UserError, match=r"00002-of-00002.*no such file"):
        openvla(folder, weights=str(hub)).load_pretrained()


def test_a_shard_of_another_upload_is_an_error(folder, tmp_path):
    _, hub = published(tmp_path, folder, shards=2)
    shard = hub / "model-00001-of-00002.safetensors"
    tensors = load_file(shard)
    save_file(tensors | {"another": torch.zeros(1)}, shard)
    with pytest.raises(UserError, match="'another' is not listed"):
        openvla(folder, weights=str(hub)).load_pretrained()


@pytest.mark.parametrize("config, complaint", [
    ({"text_config": {"num_attention_heads": 4}}, "heads is 4, not 2"),
    ({"text_config": {"num_attention_heads": 2, "rms_norm_eps": 1e-5}}, "epsilon"),
    ({"timm_model_ids": ["vit_large_patch14_clip_336.openai"]}, "timm_model_ids"),
], ids=["heads", "epsilon", "towers"])
def test_a_difference_that_shapes_do_not_show_is_an_error(folder, tmp_path, config, complaint):
    _, hub = published(tmp_path, folder, **config)
    with pytest.raises(UserError, match=complaint):
        openvla(folder, weights=str(hub)).load_pretrained()


def test_weights_that_are_not_there_say_what_to_fetch(folder, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"hf download openvla/openvla-7b --local-dir DIR.*backbone\.weights=DIR"):
        openvla(folder, weights="openvla/openvla-7b").load_pretrained()


def test_a_missing_tokenizer_says_what_to_fetch(folder, tmp_path):
    _, hub = published(tmp_path, folder)
    (hub / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"hf download openvla/openvla-7b tokenizer\.json"):
        openvla(folder, weights=str(hub), tokenizer=None).load_pretrained()

"""OFT: parallel decoding against loops written out, its extra inputs, and its extra files."""

import pytest
import torch
import torch.nn.functional as F
from toy_openvla import PATCHES, oft, percept, publish, published_tensors, tokenizer_folder

from backbones.continuation import run
from robot_io import UserError

SAY = ["pick up the cup", "Put the cup away and pick it up"]
STATE = torch.tensor([[0.1, -0.4, 0.9], [0.3, 0.2, -1.0]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tokenizer_folder(tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def model(folder):
    return oft(folder)


def turned(vectors: torch.Tensor, position: int) -> torch.Tensor:
    """Rotary position embedding of `[heads, d]` at one position (Su et al., arXiv 2104.09864), halves layout as in Llama."""
    half = vectors.shape[-1] // 2
    angle = position * 10000.0 ** (-torch.arange(half) / half)
    first, second = vectors[:, :half], vectors[:, half:]
    return torch.cat([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], -1)


def llama_position_by_position(llama, embeds: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """`[L, D]`: Llama without a causal mask, one position at a time, from its weights alone."""
    heads, eps = llama.config.num_attention_heads, llama.config.rms_norm_eps

    def norm(x, weight):
        return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * weight

    where = [i for i in range(len(embeds)) if real[i]]
    hidden = {i: embeds[i] for i in where}
    for layer in llama.layers:
        attention, inner = layer.self_attn, {i: norm(hidden[i], layer.input_layernorm.weight) for i in where}
        q, k, v = ({i: projection(inner[i]).view(heads, -1) for i in where}
                   for projection in (attention.q_proj, attention.k_proj, attention.v_proj))
        keys = torch.stack([turned(k[i], place) for place, i in enumerate(where)])
        values = torch.stack([v[i] for i in where])
        for place, i in enumerate(where):
            score = torch.einsum("hd,lhd->hl", turned(q[i], place), keys) / keys.shape[-1] ** 0.5
            hidden[i] = hidden[i] + attention.o_proj(torch.einsum("hl,lhd->hd", score.softmax(-1), values).flatten())
            inner_mlp = norm(hidden[i], layer.post_attention_layernorm.weight)
            hidden[i] = hidden[i] + layer.mlp.down_proj(F.silu(layer.mlp.gate_proj(inner_mlp)) * layer.mlp.up_proj(inner_mlp))
    zero = torch.zeros_like(embeds[0])
    return torch.stack([norm(hidden[i], llama.norm.weight) if i in hidden else zero for i in range(len(embeds))])


def test_one_parallel_pass_equals_a_loop_over_positions(model):
    vlm, context = model.vlm, model(percept(2, 2), SAY, STATE)
    state = model.proprio_projector(STATE)
    prefix, mask = vlm.prefix(percept(2, 2), SAY, [(state, torch.ones(2, 1, dtype=torch.bool))])
    stop = vlm.language_model.model.embed_tokens.weight[2]
    assert prefix.shape[1] == 1 + 2 * PATCHES + 1 + 21
    for b in range(2):
        sequence = torch.cat([prefix[b], torch.zeros(6, 16), stop[None]])
        real = torch.cat([mask[b], torch.ones(7, dtype=torch.bool)])
        expected = llama_position_by_position(vlm.language_model.model, sequence, real)
        torch.testing.assert_close(context.hidden[b, real], expected[real], atol=1e-5, rtol=1e-4)
        # The readout is one place early: from the last word of the prompt to the last empty position but one.
        torch.testing.assert_close(context.readout[b], expected[len(prefix[b]) - 1:][:6], atol=1e-5, rtol=1e-4)


def test_under_a_causal_mask_parallel_and_autoregressive_decoding_agree(model):
    """Empty inputs carry no earlier choice, so one pass over them and a loop with the cache must give the same."""
    from transformers import DynamicCache

    language = model.vlm.language_model
    prefix, mask = model.vlm.prefix(percept(2, 2), SAY, [])
    empty, more = torch.zeros(2, 6, 16), torch.ones(2, 6, dtype=torch.bool)
    together, _ = model.vlm.read(torch.cat([prefix, empty], 1), torch.cat([mask, more], 1))
    cache = DynamicCache(config=language.config)
    one_by_one = [run(language, prefix, mask, cache)[:, -1]]
    for step in range(6):
        one_by_one.append(run(language, empty[:, :1], torch.cat([mask, more[:, :step + 1]], 1), cache)[:, 0])
    torch.testing.assert_close(together[:, -7:], torch.stack(one_by_one, 1), atol=1e-5, rtol=1e-5)


def test_attention_reaches_later_positions(model):
    """The first word sees the end of the sequence, and the first action the last."""
    prefix, mask = model.vlm.prefix(percept(1, 2), SAY[:1], [])
    changed = prefix.clone()
    changed[:, -1] += 1.0
    both = [model.vlm.read_both_ways(x, mask) for x in (prefix, changed)]
    assert not torch.allclose(both[0][:, 0], both[1][:, 0], atol=1e-4)
    causal = [model.vlm.read(x, mask)[0] for x in (prefix, changed)]
    torch.testing.assert_close(causal[0][:, 0], causal[1][:, 0])


def test_a_longer_neighbour_changes_nothing(model):
    together = model(percept(2, 2), SAY, STATE).readout
    seen = percept(2, 2)
    alone = model(seen.replace(images=seen.images[:1]), SAY[:1], STATE[:1]).readout
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)


def test_words_state_and_every_view_matter(model):
    def read(say=SAY[0], state=STATE[:1], change=None):
        images = percept(1, 2).images
        if change is not None:
            images[:, change] = 1 - images[:, change]
        return model(percept(1).replace(images=images), [say], state).readout

    for other in (read(say="put up the cup"), read(state=-STATE[:1]), read(change=0), read(change=1)):
        assert not torch.allclose(read(), other, atol=1e-5)


def test_bfloat16_weights_give_nearly_the_same_readout_in_float32(folder, model):
    rough = oft(folder, dtype="bfloat16")
    rough.load_state_dict(model.state_dict())
    expected, found = model(percept(2, 2), SAY, STATE).readout, rough(percept(2, 2), SAY, STATE).readout
    assert found.dtype == torch.float32
    assert (found - expected).square().mean() < 1e-3 * expected.square().mean()


def checkpoint(tmp_path, model, **extra):
    """An OFT checkpoint; `extra` are its `.pt` files, named as data-parallel training left them."""
    hub = publish(tmp_path / "oft", published_tensors(model.vlm))
    for stem, tensors in extra.items():
        torch.save({f"module.{name}": value for name, value in tensors.items()}, hub / f"{stem}--150000_checkpoint.pt")
    return str(hub)


def test_an_oft_checkpoint_brings_its_state_projector(folder, tmp_path):
    made = oft(folder, seed=7)
    hub = checkpoint(tmp_path, made, action_head={}, proprio_projector=made.proprio_projector.state_dict())
    loaded = oft(folder, weights=hub, tokenizer=None)
    loaded.load_pretrained()
    assert torch.equal(loaded(percept(2, 2), SAY, STATE).readout, made(percept(2, 2), SAY, STATE).readout)


def test_from_openvlas_own_weights_the_state_projector_starts_anew(folder, tmp_path):
    hub = checkpoint(tmp_path, oft(folder, seed=7))
    loaded = oft(folder, weights=hub)
    loaded.load_pretrained()
    assert loaded.proprio_projector.fc1.weight.std() > 0.1


@pytest.mark.parametrize("state_dim, files, complaint", [
    (3, {"action_head": {}}, "no proprio_projector"),
    (0, {"proprio_projector": {}}, r"data\.state=true"),
    (3, {"vision_backbone": {}}, "FiLM"),
    (3, {"proprio_projector": {"fc1.weight": torch.zeros(16, 3)}}, "'fc1.bias' is missing"),
    (3, {"proprio_projector": {"fc1.weight": torch.zeros(16, 8), "fc1.bias": torch.zeros(16), "fc2.bias": torch.zeros(16),
                               "fc2.weight": torch.zeros(16, 16)}}, r"\(16, 8\); expected \(16, 3\)"),
    (3, {"proprio_projector": {"fc1.weight": 0.5}}, "table of tensors"),
], ids=["no state projector", "unread state", "film", "missing", "another robot", "a number"])
def test_a_checkpoint_that_does_not_fit_is_an_error(folder, tmp_path, state_dim, files, complaint):
    hub = checkpoint(tmp_path, oft(folder), **files)
    with pytest.raises(UserError, match=complaint):
        oft(folder, state_dim=state_dim, weights=hub).load_pretrained()


def test_a_pt_file_with_more_than_tensors_is_not_executed(folder, tmp_path):
    from pathlib import Path

    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    hub = checkpoint(tmp_path, oft(folder), proprio_projector={"fc1.weight": Evil()})
    with pytest.raises(UserError, match="cannot be read"):
        oft(folder, weights=hub).load_pretrained()
    assert not (tmp_path / "executed").exists()


def test_two_versions_of_a_file_are_ambiguous(folder, tmp_path):
    made = oft(folder)
    hub = checkpoint(tmp_path, made, proprio_projector=made.proprio_projector.state_dict())
    torch.save({}, f"{hub}/proprio_projector--100000_checkpoint.pt")
    with pytest.raises(UserError, match="several of proprio_projector"):
        oft(folder, weights=hub).load_pretrained()

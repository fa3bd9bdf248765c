"""What training costs: the table, activations computed again, parts of a batch, half precision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from rich.console import Console
from toy_backbone import Toy

from backbones.context import Backbone
from robot_io import UserError
from vla.data import Demonstrations
from vla.policy import Policy
from vla.recipe import Train
from vla.tuning import parts, parts_table


def build(recipe) -> tuple[Policy, Demonstrations]:
    data = Demonstrations(recipe)
    return Policy.build(recipe, data.spec, data.normalizer()), data


def gradients(policy: Policy, data: Demonstrations) -> tuple[float, dict[str, torch.Tensor]]:
    frames, order = data.open_frames(lambda items, _: items), data.order(0)
    samples = data.columns(order, "cpu")
    policy.train().zero_grad()
    torch.manual_seed(0)
    loss = policy.loss(frames.add_to(samples.batch, order), samples.actions, samples.valid).total
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}


def test_memory_is_counted_in_the_types_it_is_kept_in(toy_recipe: Callable):
    policy, _ = build(toy_recipe("tuning.mode=lora", "tuning.vision=frozen"))
    policy.plain_backbone.eye.bfloat16()
    rows = {part.name: part for part in parts(policy, policy.recipe.train)}
    eye, head = rows["backbone: vision"], rows["head"]
    assert (eye.weights, eye.gradients, eye.moments, eye.average) == (2 * eye.total, 0, 0, 0)
    assert (head.weights, head.gradients, head.moments, head.average) == tuple(4 * n * head.total for n in (1, 1, 2, 1))
    without = {part.name: part for part in parts(policy, Train(ema=None))}["head"]
    assert without.megabytes == pytest.approx(4 * 4 * head.total / 1e6)


def test_the_optimizer_really_needs_what_the_table_says(toy_recipe: Callable):
    policy, data = build(toy_recipe("tuning.mode=lora", "tuning.vision=frozen"))
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad])
    gradients(policy, data)
    optimizer.step()
    moments = sum(t.nbytes for state in optimizer.state.values() for t in state.values() if t.ndim)
    assert moments == sum(part.moments for part in parts(policy, policy.recipe.train))


def test_the_table_names_every_part_once(toy_recipe: Callable):
    policy, _ = build(toy_recipe("tuning.mode=lora", "perception=[{kind: shift}]"))
    console = Console(record=True, width=120)
    console.print(parts_table(policy, policy.recipe.train))
    text = console.export_text()
    for part in ("vision", "trunk", "new", "adapters", "head", "all"):
        assert text.count(part) == 1, part


def test_activations_computed_again_give_the_same_gradients(toy_recipe: Callable):
    options = ("tuning.mode=lora", "tuning.vision=full", "backbone.dropout=0.2", "tuning.lora.dropout=0.1")
    policy, data = build(toy_recipe(*options))
    plain, expected = gradients(policy, data)
    calls: list[int] = []
    policy.plain_backbone.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    policy.plain_backbone.enable_checkpointing()
    again, found = gradients(policy, data)
    assert len(calls) == 2  # forward, and once more going backward
    assert again == plain
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())


def test_a_transformers_model_inside_computes_its_layers_again():
    from transformers import LlamaConfig, LlamaModel

    class Language(Backbone):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.model = LlamaModel(LlamaConfig(vocab_size=16, hidden_size=16, intermediate_size=16, num_hidden_layers=2,
                                                num_attention_heads=2, num_key_value_heads=2))

    def run(backbone: Language) -> tuple[int, torch.Tensor]:
        calls: list[int] = []
        backbone.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
        backbone.train().model(torch.arange(6)[None], use_cache=False).last_hidden_state.square().sum().backward()
        return len(calls), backbone.model.layers[0].self_attn.q_proj.weight.grad

    plain, saving = Language(), Language()
    saving.enable_checkpointing()
    (once, expected), (twice, found) = run(plain), run(saving)
    assert (once, twice) == (1, 2)
    assert torch.equal(found, expected)


def test_a_backbone_that_cannot_says_so():
    with pytest.raises(UserError, match="Toy cannot compute its layers again"):
        Toy().enable_checkpointing()


def test_half_precision_is_close(toy_recipe: Callable):
    policy, data = build(toy_recipe("tuning.mode=lora", "tuning.quantize=nf4", "head.decoder.dropout=0"))
    exact, expected = gradients(policy, data)
    with torch.autocast("cpu", torch.bfloat16):
        rough, found = gradients(policy, data)
    assert rough == pytest.approx(exact, rel=0.02)
    assert rough != exact
    every = [torch.cat([gradient.flatten() for gradient in kind.values()]) for kind in (expected, found)]
    assert torch.nn.functional.cosine_similarity(*every, dim=0) > 0.98

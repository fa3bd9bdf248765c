"""QLoRA: frozen layers in four or eight bits, adapters on top of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from toy_backbone import Toy
from toy_robot import ToyRobot

from robot_io import UserError
from vla.data import Demonstrations
from vla.policy import Policy
from vla.recipe import Recipe, Tuning
from vla.tuning import is_adapter, parts, restore_quantized, tune
from vla.tuning.quantize import is_quantized, size

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
BITS = pytest.mark.parametrize("how", ["nf4", "int8"])


def tuned(how: str = "nf4", **options) -> nn.Module:
    return tune(Toy(), Tuning.model_validate({"mode": "lora", "vision": "frozen", "quantize": how, **options}))


def quantized(module: nn.Module) -> set[str]:
    return {name.replace("base_model.model.", "").removesuffix(".base_layer")
            for name, layer in module.named_modules() if is_quantized(layer) and "lora" not in name and
            type(layer).__module__.split(".")[0] != "peft"}


@BITS
def test_the_frozen_linear_layers_are_kept_in_few_bits(how: str):
    trunk = {f"layers.{i}.{layer}" for i in (0, 1) for layer in ("up", "down")}
    assert quantized(tuned(how)) == trunk
    assert quantized(tuned(how, quantize_vision=True)) == trunk | {"eye.see"}
    assert quantized(tuned(how, mode="frozen")) == trunk
    assert quantized(tuned(how, trainable=[r"layers\.1\."])) == {name for name in trunk if ".0." in name}


@BITS
def test_it_computes_nearly_the_same_and_trains_through_it(how: str):
    module, plain = tuned(how), Toy()
    y, reference = module(X), plain(X)
    error = (y - reference).norm() / reference.norm()
    assert 0 < error < {"nf4": 0.2, "int8": 0.02}[how]
    y.square().sum().backward()
    reached = {name for name, p in module.named_parameters() if p.grad is not None}
    assert reached == {name for name, p in module.named_parameters() if is_adapter(name) or ".state." in name}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nf4_takes_an_eighth_of_float32_wherever_it_came_from(dtype: torch.dtype):
    class Wide(Toy):
        def __init__(self) -> None:
            super().__init__()
            self.layers[0]["up"] = nn.Linear(1024, 1024, dtype=dtype)

    weight = tune(Wide(), Tuning(mode="frozen", quantize="nf4")).layers[0]["up"].weight
    bits = 8 * size(weight) / 1024**2
    assert 4.12 < bits < 4.15  # 4 + 8/64 + 32/(64·256), and two tables (QLoRA, sec. 3)
    eight = tune(Wide(), Tuning(mode="frozen", quantize="int8")).layers[0]["up"].weight
    assert 8 * size(eight) / 1024**2 == pytest.approx(8 + 32 / 1024)


def test_half_precision_beside_quantised_layers_is_raised():
    module = tune(Toy(half=True), Tuning(mode="lora", quantize="nf4", vision="frozen"))
    assert {p.dtype for p in module.parameters()} == {torch.float32, torch.uint8}


def test_nf4_does_not_depend_on_what_was_computed_before():
    """bitsandbytes' own layer keeps the precision of its first call, and rounds its bias to it."""
    module = tuned().train()
    with torch.autocast("cpu", torch.bfloat16):
        rough = module(X)
    assert module.base_model.model.layers[0]["down"].bias.dtype == torch.float32
    exact = module.eval()(X)
    assert torch.equal(exact, tuned().eval()(X))
    assert 0 < (rough - exact).abs().max() < 0.1


@BITS
@pytest.mark.parametrize("lora", [{"dora": True}, {"rslora": True}], ids=["dora", "rslora"])
def test_variants_of_lora_adapt_quantised_layers(how: str, lora: dict):
    module = tuned(how, lora=lora)
    module(X).square().sum().backward()
    grads = [p.grad.abs().sum() for name, p in module.named_parameters() if "lora_B" in name]
    assert len(grads) == 2
    assert all(grad > 0 for grad in grads)


@BITS
def test_layers_restored_from_their_tensors_are_the_same(how: str):
    module = tuned(how, mode="frozen").eval()
    expected = module(X)
    weights = {f"backbone.{name}": tensor.clone() for name, tensor in module.state_dict().items()}
    other = Toy()
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    restore_quantized(other, weights, "backbone.")
    own = other.state_dict()
    assert own.keys() == module.state_dict().keys()
    for name, tensor in own.items():
        assert tensor.shape == weights[f"backbone.{name}"].shape
        tensor.copy_(weights[f"backbone.{name}"])
    assert torch.equal(other.eval()(X), expected)


def build(recipe: Recipe) -> Policy:
    data = Demonstrations(recipe)
    policy = Policy.build(recipe, data.spec, data.normalizer())
    for name, parameter in policy.named_parameters():
        if is_adapter(name):
            nn.init.normal_(parameter, std=0.1)
    return policy


@BITS
def test_a_quantised_policy_is_saved_small_and_loads_to_the_same_bits(toy_recipe: Callable, tmp_path: Path, how: str):
    options = ("tuning.mode=lora", "tuning.vision=frozen", "backbone.dim=64")
    policy, plain = build(toy_recipe(*options, f"tuning.quantize={how}")), build(toy_recipe(*options))
    policy.save(tmp_path / "policy")
    loaded = Policy.load(tmp_path / "policy")
    robot = ToyRobot()
    robot.reset(3)
    observation = robot.observe()
    assert np.array_equal(policy.act([observation], seed=1)[0].actions, loaded.act([observation], seed=1)[0].actions)
    for (name, ours), theirs in zip(policy.named_parameters(), loaded.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
        assert ours.requires_grad == theirs.requires_grad, name
    saved = load_file(tmp_path / "policy" / "model.safetensors")
    assert saved["backbone.layers.0.up.weight"].dtype == {"nf4": torch.uint8, "int8": torch.int8}[how]
    loaded.save(tmp_path / "again")
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert again.keys() == saved.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in saved.items())
    memory = [sum(part.weights for part in parts(p, p.recipe.train) if part.name == "backbone: trunk") for p in (policy, plain)]
    assert memory[0] < 0.75 * memory[1]  # the word embeddings, 512 of them, are not quantised


def test_two_builds_quantise_to_the_same_bits(toy_recipe: Callable):
    one, two = (build(toy_recipe("tuning.mode=lora", "tuning.quantize=nf4")) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), two.buffers(), strict=True))
    weights = [[p for p in policy.parameters() if not p.is_floating_point()] for policy in (one, two)]
    assert len(weights[0]) > 5
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


@pytest.mark.parametrize(("options", "found"), [
    (["tuning.quantize=nf4"], "tuning.mode: 'full', but quantised"),
    (["tuning.quantize=nf4", "tuning.mode=lora", "tuning.quantize_vision=true"], "tuning.vision: 'full'"),
    (["tuning.vision=frozen", "tuning.quantize_vision=true"], "tuning.quantize_vision: true, but nothing says how"),
])
def test_what_is_trained_in_full_is_not_quantised(toy_recipe: Callable, options: list[str], found: str):
    with pytest.raises(UserError, match=found):
        toy_recipe(*options)


def test_quantised_weights_cannot_be_trained():
    module = tuned()
    with pytest.raises(UserError, match=r"'layers.0.up.weight' should be trained but is quantised"):
        tune(module.get_base_model(), Tuning(mode="full", vision="frozen"))


def test_weights_that_share_memory_stay_as_they_are():
    class Tied(Toy):
        def __init__(self) -> None:
            super().__init__()
            self.output = nn.Linear(32, 5, bias=False)
            self.output.weight = self.words.weight

    assert "output" not in quantized(tune(Tied(), Tuning(mode="lora", vision="frozen", quantize="nf4")))

"""Policies in fewer bits: each format near the original and as small as it says, saved and loaded to the same bits."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from toy_robot import ToyRobot

from robot_io import UserError
from vla.data import Demonstrations
from vla.policy import Policy
from vla.serve.quantize import (
    CONVOLUTION,
    EMBEDDING,
    LINEAR,
    for_serving,
    layer_bytes,
    layers,
    memory,
    quantize_policy,
    replaced,
    resolve,
    slow_on,
)
from vla.tuning import restore_quantized

BITS = {"bf16": 16, "int8": 8, "int8_dynamic": 8, "int8_outliers": 8, "int4": 4.5, "nf4": 4.13, "fp4": 4.13}
ERROR = {"bf16": 0.004, "int8": 0.01, "int8_dynamic": 0.03, "int8_outliers": 0.02, "int4": 0.12, "nf4": 0.12, "fp4": 0.16}
WIDE = ("backbone.dim=64", "head.denoiser={width: 64, depth: 1, condition: 16}")


def build(toy_recipe: Callable, *overrides: str) -> Policy:
    recipe = toy_recipe(*overrides)
    data = Demonstrations(recipe)
    policy = Policy.build(recipe, data.spec, data.normalizer())
    with torch.no_grad():  # adapters and a new head begin as nothing
        for name, parameter in policy.named_parameters():
            if "lora_B" in name or name.startswith("head."):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    return policy.eval()


def act(policy: Policy) -> np.ndarray:
    robot = ToyRobot()
    robot.reset(3)
    return policy.act([robot.observe()], seed=1)[0].actions


@pytest.mark.parametrize("how", LINEAR)
def test_a_layer_is_as_small_and_as_near_as_its_format_says(how: str) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(512, 1024), torch.randn(7, 3, 512)
    made = LINEAR[how](copy.deepcopy(layer))
    error = (made(x) - layer(x)).norm() / layer(x).norm()
    assert 0 < error < ERROR[how] and made(x).dtype == x.dtype
    bits = 8 * (layer_bytes(made) - 4 * 1024) / layer.weight.numel()  # without the bias
    assert BITS[how] <= bits + 0.01 and bits < BITS[how] + 0.1
    assert not any(parameter.requires_grad for name, parameter in made.named_parameters() if name == "weight")


@pytest.mark.parametrize("how", EMBEDDING)
def test_embeddings(how: str) -> None:
    torch.manual_seed(0)
    layer, ids = nn.Embedding(100, 64), torch.tensor([[3, 5], [99, 0]])
    made = EMBEDDING[how](layer)
    assert (made(ids) - layer(ids)).abs().max() < 0.02 and made(ids).dtype == torch.float32
    assert layer_bytes(made) <= layer_bytes(layer) * {"bf16": 0.5, "int8": 0.27}[how]


def test_convolutions_multiply_in_half_precision() -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv2d(6, 12, 3, stride=2, padding=1, groups=2), torch.randn(2, 6, 9, 9)
    made = CONVOLUTION["bf16"](layer)
    assert made(x).dtype == torch.float32 and made(x).shape == layer(x).shape
    assert 0 < (made(x) - layer(x)).norm() / layer(x).norm() < 0.01
    assert layer_bytes(made) == 2 * layer.weight.numel() + 4 * 12


def test_an_eye_of_convolutions_takes_bf16_and_nothing_else(toy_recipe: Callable, tmp_path: Path) -> None:
    policy = build(toy_recipe, "head.kind=diffusion", *WIDE, "backbone={kind: tiny, layers: 1, weights: null}")
    assert {layer.formats for layer in layers(policy) if layer.group == "vision"} == {("bf16",)}
    with pytest.raises(UserError, match="format 'int8' of vision: not known; expected one of full, bf16"):
        resolve(policy, {"vision": "int8"})
    before = act(policy)
    quantize_policy(policy, {"vision": "bf16"})
    after = act(policy)
    assert 0 < np.abs(after - before).max() < 0.05
    policy.save(tmp_path / "policy")
    loaded = Policy.load(tmp_path / "policy")
    assert np.array_equal(act(loaded), after) and memory(loaded) == memory(policy)


def test_it_warns_of_bfloat16_convolutions_on_a_cpu_that_has_no_bfloat16(toy_recipe: Callable) -> None:
    policy = build(toy_recipe, "head.kind=diffusion", *WIDE, "backbone={kind: tiny, layers: 1, weights: null}")
    without = {"avx2": True, "amx_bf16": False, "avx512_bf16": False}
    assert slow_on(policy, without) is None
    quantize_policy(policy, {"vision": "bf16"})
    assert "vision=full" in slow_on(policy, without)
    assert slow_on(policy, without | {"amx_bf16": True}) is slow_on(policy, without | {"avx512_bf16": True}) is None


def test_the_integer_kernel_computes_what_the_rounded_weight_means() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(256, 128)
    plain, dynamic = LINEAR["int8"](layer), LINEAR["int8_dynamic"](layer)
    assert torch.equal(plain.full, dynamic.full)
    x = torch.randn(5, 256)
    step = (x.amax() - x.amin()) / 127
    assert (plain(x) - dynamic(x)).abs().max() < 0.5 * step * plain.full.abs().sum(1).max()
    again = copy.deepcopy(dynamic)  # the kernel's own form of the weight is not copied with it
    assert torch.equal(again(x), dynamic(x))


@pytest.mark.parametrize("how", LINEAR)
def test_a_quantised_policy_is_saved_small_and_loads_to_the_same_bits(toy_recipe: Callable, tmp_path: Path, how: str) -> None:
    policy = build(toy_recipe, "head.kind=diffusion", *WIDE)
    before, full = act(policy), memory(policy)
    quantize_policy(policy, {"trunk": how, "head": how, "embeddings": "int8"})
    after = act(policy)
    policy.save(tmp_path / "policy")
    loaded = Policy.load(tmp_path / "policy")
    assert np.array_equal(after, act(loaded)) and memory(loaded) == memory(policy) < full
    assert [type(a) for a in policy.modules()] == [type(b) for b in loaded.modules()]
    assert np.abs(after - before).max() < 0.1 and not np.array_equal(after, before)
    size = sum(tensor.numel() * tensor.element_size() for tensor in load_file(tmp_path / "policy" / "model.safetensors").values())
    assert size == memory(policy)


@pytest.mark.parametrize("merge", [True, False])
def test_lora_is_merged_or_kept_and_means_the_same(toy_recipe: Callable, tmp_path: Path, merge: bool) -> None:
    policy = build(toy_recipe, "head.kind=diffusion", "tuning.mode=lora", "tuning.vision=frozen", *WIDE)
    before = act(policy)
    quantize_policy(policy, {"trunk": "int8"}, merge=merge)
    np.testing.assert_allclose(act(policy), before, atol=0.05)
    assert any(".lora_" in name for name, _ in policy.named_parameters()) != merge
    policy.save(tmp_path / "policy")
    loaded = Policy.load(tmp_path / "policy")
    assert np.array_equal(act(loaded), act(policy)) and (tmp_path / "policy" / "adapter").exists() != merge
    assert policy.recipe.tuning.mode == loaded.recipe.tuning.mode == ("frozen" if merge else "lora")


def test_for_serving_adapters_are_merged_and_the_policy_stays_what_it_is_called(toy_recipe: Callable) -> None:
    policy = build(toy_recipe, "head.kind=diffusion", *WIDE, "tuning.mode=lora", "tuning.vision=frozen")
    expected, called = act(policy), policy.recipe.hash
    served = for_serving(policy)
    assert served.recipe.hash == called and not any(".lora_" in name for name, _ in served.named_parameters())
    np.testing.assert_allclose(act(served), expected, atol=1e-5)


def test_adapters_on_quantised_weights_stay_beside(toy_recipe: Callable) -> None:
    policy = build(toy_recipe, "head.kind=diffusion", "tuning.mode=lora", "tuning.vision=frozen", "tuning.quantize=nf4")
    with pytest.raises(UserError, match="--keep-lora"):
        quantize_policy(policy, {"head": "int8"})
    quantize_policy(policy, {"head": "int8"}, merge=False)
    left = {layer.group for layer in layers(policy) if layer.formats != ("bf16",)}  # but for the eye's convolutions
    assert left == {"embeddings"} | {"trunk"} & left


def test_a_plan_names_groups_and_blocks_and_the_narrower_name_decides(toy_recipe: Callable) -> None:
    policy = build(toy_recipe, "head.kind=diffusion", "backbone.layers=2")
    blocks = sorted({layer.block for layer in layers(policy) if layer.group == "trunk"})
    formats = resolve(policy, {"trunk": "nf4", blocks[0]: "int8", blocks[1]: "full"})
    by_block = {layer.block: formats.get(layer.name) for layer in layers(policy) if layer.group == "trunk"}
    assert by_block[blocks[0]] == "int8" and by_block[blocks[1]] is None
    for plan, words in (({"trunc": "nf4"}, "did you mean 'trunk'"), ({"trunk": "int3"}, "one of full, bf16"),
                        ({"embeddings": "nf4"}, "one of full, bf16, int8")):
        with pytest.raises(UserError, match=words):
            resolve(policy, plan)


def test_trying_a_format_leaves_no_trace(toy_recipe: Callable) -> None:
    policy = build(toy_recipe, "head.kind=diffusion")
    before, names = act(policy), resolve(policy, {"trunk": "int4", "head": "int8"})
    with pytest.raises(ZeroDivisionError), replaced(policy, names):
        assert not np.array_equal(act(policy), before)
        raise ZeroDivisionError
    assert np.array_equal(act(policy), before)


def test_saved_layers_that_nobody_has_are_refused() -> None:
    with pytest.raises(UserError, match="quantised layer 'gone'"):
        restore_quantized(nn.Sequential(nn.Linear(2, 2)), {"gone.weight": torch.zeros(2, 2, dtype=torch.int8),
                                                           "gone.int8_scale": torch.ones(2)})

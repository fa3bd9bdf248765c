"""A trained policy in fewer bits: which layer in which format, applied in place; `Policy.save` and `Policy.load` do the rest.

A plan names a format for groups of layers (`trunk=nf4`, `vision=int8`, `head=bf16`) or for blocks within one (`trunk.layers.3=int8`). Groups are
the backbone's `trunk`, its `vision` tower, its `embeddings`, and the `head`; a block is a layer of a stack or whatever else a group falls
into. Convolutions take bf16 and stay as they are in any other format; so do norms, what shares its weight, and the backbone's
`new_modules`. LoRA is merged first (a layer fewer to compute), or kept beside the quantised layers.

What is saved are the few bits themselves: loading never makes the full-precision weights (`vla.tuning.quantize.restore_quantized`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from robot_io import UserError
from robot_io.errors import nearest
from vla.policy import Policy
from vla.recipe import Recipe
from vla.tuning import is_adapter, part_of, plain_name
from vla.tuning.layers import (
    DynamicInt8Linear,
    HalfConv2d,
    HalfEmbedding,
    HalfLinear,
    Int4Linear,
    Int8Embedding,
    Int8Linear,
    group_of,
)
from vla.tuning.quantize import eight_bit, four_bit

Maker = Callable[[nn.Linear], nn.Module]

LINEAR: dict[str, Maker] = {
    "bf16": HalfLinear.of,
    "int8": Int8Linear.of,
    "int8_dynamic": DynamicInt8Linear.of,
    "int8_outliers": lambda layer: eight_bit(layer, layer.weight.detach()),
    "int4": Int4Linear.of,
    "nf4": lambda layer: four_bit(layer, layer.weight.detach(), "nf4"),
    "fp4": lambda layer: four_bit(layer, layer.weight.detach(), "fp4"),
}
"""Formats of linear layers. `int8_outliers` (LLM.int8()), `nf4` and `fp4` are bitsandbytes', the others `vla.tuning.layers`'."""
EMBEDDING: dict[str, Callable[[nn.Embedding], nn.Module]] = {"bf16": HalfEmbedding.of, "int8": Int8Embedding.of}
CONVOLUTION: dict[str, Callable[[nn.Conv2d], nn.Module]] = {"bf16": HalfConv2d.of}
FORMATS: dict[type[nn.Module], dict[str, Callable[[Any], nn.Module]]] = {nn.Linear: LINEAR, nn.Embedding: EMBEDDING, nn.Conv2d: CONVOLUTION}
GROUPS = ("trunk", "vision", "embeddings", "head")

Plan = Mapping[str, str]
"""Formats by group or block."""


@dataclass(frozen=True)
class Layer:
    """A layer that may be kept in fewer bits.

    Attributes:
        name: of the module within the policy.
        group, block: `trunk`, and `trunk.layers.3`.
        weights: how many it has.
        formats: those that it can have.
    """

    name: str
    group: str
    block: str
    weights: int
    formats: tuple[str, ...]


def layers(policy: Policy) -> list[Layer]:
    """All that a plan can name, in the policy's order."""
    owners = Counter(id(module._parameters.get("weight")) for module in policy.modules())  # not peft's properties
    output = {id(module.get_output_embeddings()) for module in policy.modules() if hasattr(module, "get_output_embeddings")}
    found = []
    for name, module in policy.named_modules():
        kind = type(module)
        if kind not in FORMATS or is_adapter(f"{name}.") or owners[id(module.weight)] > 1 or id(module) in output:
            continue
        top, _, inner = plain_name(f"{name}.").rstrip(".").partition(".")
        part = part_of(policy.plain_backbone, inner) if top == "backbone" else top
        if part in ("trunk", "projector", "vision", "head"):
            group = "embeddings" if kind is nn.Embedding else {"projector": "trunk"}.get(part, part)
            found.append(Layer(name, group, f"{group}.{_block(inner)}", module.weight.numel(), tuple(FORMATS[kind])))
    return found


def resolve(policy: Policy, plan: Plan) -> dict[str, str]:
    """The format of every layer named by `plan`, by the module's name; a block has the last word over its group.

    Raises:
        UserError: no such group, block or format; a group without layers that can have it.
    """
    found = layers(policy)
    known = {layer.group for layer in found} | {layer.block for layer in found}
    formats: dict[str, str] = {}
    for where, how in sorted(plan.items(), key=lambda item: item[0].count(".")):
        if where not in known:
            missing = "has no layer that could be quantised" if where in GROUPS else "not known"
            raise UserError(f"layers '{where}'", missing, "a group or a block of this policy", nearest(where, known))
        here = [layer for layer in found if where in (layer.group, layer.block)]
        allowed = list(dict.fromkeys(name for layer in here for name in layer.formats))
        if how != "full" and how not in allowed:
            raise UserError(f"format '{how}' of {where}", "not known", "one of full, " + ", ".join(allowed), nearest(how, allowed))
        for layer in here:
            possible = how != "int4" or "int4" not in layer.formats or group_of(policy.get_submodule(layer.name))
            formats[layer.name] = (how if possible else "int8") if how in layer.formats else "full"
    return {name: how for name, how in formats.items() if how != "full"}


def quantize_policy(policy: Policy, plan: Plan, *, merge: bool = True) -> Policy:
    """`policy` itself, its layers replaced; with `merge`, its adapters are part of the weights first.

    Raises:
        UserError: see `resolve`; adapters that cannot be merged into weights that are quantised already.
    """
    if merge:
        merge_adapters(policy)
    for name, how in resolve(policy, plan).items():
        layer = policy.get_submodule(name)
        policy.set_submodule(name, FORMATS[type(layer)][how](layer).requires_grad_(False))
    policy.recipe = frozen(policy.recipe, ("full",))
    return policy.eval()


def has_bfloat16(capabilities: Mapping[str, bool] | None = None) -> bool:
    """Whether a CPU with these `torch.cpu.get_capabilities()` (this one's, if None) multiplies in bfloat16, or can only imitate it."""
    capabilities = torch.cpu.get_capabilities() if capabilities is None else capabilities
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


def slow_on(policy: Policy, capabilities: Mapping[str, bool] | None = None) -> str | None:
    """What to warn of on such a CPU (see `has_bfloat16`): convolutions that multiply in bfloat16, which it can only imitate."""
    if has_bfloat16(capabilities):
        return None
    count = sum(isinstance(module, HalfConv2d) for module in policy.modules())
    return f"{count} convolutions are in bfloat16, which this CPU has no arithmetic for: they are several times slower here. Leave vision as it " \
           "is (vision=full) unless the policy is to run on a GPU or on a CPU with AMX or AVX512-BF16" if count else None


def merge_adapters(policy: Policy) -> None:
    """LoRA's product added to the weights it adapts, for good."""
    if policy.backbone is policy.plain_backbone:
        return
    if policy.recipe.tuning.quantize is not None:
        raise UserError("adapters", f"they are on top of weights in {policy.recipe.tuning.quantize}", "weights in full precision",
                        "keep them beside (--keep-lora)")
    _merge(policy)
    policy.recipe = frozen(policy.recipe, ("lora",))


def for_serving(policy: Policy) -> Policy:
    """`policy` itself, its adapters in its weights where these are in full precision: fewer products a request. The recipe stays: up to
    rounding it is the same policy."""
    if policy.backbone is not policy.plain_backbone and policy.recipe.tuning.quantize is None:
        _merge(policy)
    return policy


def _merge(policy: Policy) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in policy.backbone.modules():  # `merge_and_unload` wants a transformers configuration
        if isinstance(module, BaseTunerLayer):
            module.merge()
    policy.backbone = policy.backbone.unload()


def frozen(recipe: Recipe, how: Collection[str]) -> Recipe:
    """The recipe of a policy that is not going to be trained on where it was trained in one of those ways."""
    tuning = recipe.to_dict()["tuning"]
    stopped = {part: "frozen" for part in ("mode", "vision", "projector") if tuning[part] in how}
    return Recipe.from_dict(recipe.to_dict() | {"tuning": tuning | stopped | {"trainable": ()}})


@contextmanager
def replaced(policy: Policy, formats: Mapping[str, str]) -> Iterator[None]:
    """Those layers in those formats for a while; then what was there before."""
    before = {name: policy.get_submodule(name) for name in formats}
    for name, how in formats.items():
        policy.set_submodule(name, FORMATS[type(before[name])][how](before[name]))
    try:
        yield
    finally:
        for name, layer in before.items():
            policy.set_submodule(name, layer)


def memory(policy: nn.Module) -> int:
    """Bytes of everything that `Policy.save` would write for it: weights, scales, buffers; shared ones once."""
    seen: dict[tuple, int] = {}
    for tensor in policy.state_dict().values():
        seen[tensor.data_ptr() or id(tensor), tensor.shape] = tensor.numel() * tensor.element_size()
    return sum(seen.values())


def layer_bytes(layer: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in layer.state_dict().values())


def _block(inner: str) -> str:
    """`layers.3` of `model.layers.3.attend.q`; the first two names of what is not in a stack."""
    stacked = re.match(r"((?:[^.]+\.)*?[^.\d][^.]*\.\d+)(\.|$)", inner)
    return stacked[1] if stacked else ".".join(inner.split(".")[:2])

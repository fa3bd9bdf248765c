"""Frozen linear layers in four or eight bits, through bitsandbytes: QLoRA (Dettmers et al., arXiv 2305.14314, sec. 3).

`nf4` keeps a weight in 4 bits of a scale for normally distributed values with one absmax per 64 weights, which is itself kept in
8 bits (double quantisation): 4.13 bits a weight. `int8` keeps one absmax per row (LLM.int8(), arXiv 2208.07339). Both compute in
the precision of their input, and pass gradients on to it.

A policy folder holds the quantised weights themselves, in bitsandbytes' own naming (`….weight`, `….weight.absmax`, …): small, and
the same bits after loading. Not quantised: embeddings, convolutions, norms, the output embedding and whatever else shares
its weight with another layer, and everything that is trained.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import Tensor, nn

from backbones.context import Backbone
from robot_io import UserError
from vla.recipe import Tuning
from vla.tuning.layers import Kept, restored
from vla.tuning.names import part_of

NF4, FP4, INT8 = ".weight.quant_state.bitsandbytes__nf4", ".weight.quant_state.bitsandbytes__fp4", ".SCB"
"""How a layer saved by bitsandbytes is told: the ends of the names of tensors that only such a layer has."""
KEPT = (".int8_scale", ".dynamic_scale", ".int4_scale")
"""The same for `vla.tuning.layers`, whose half-precision layers are told by their type."""
OUTLIERS = 6.0
"""Inputs above this are multiplied in full precision (LLM.int8(), sec. 3.2)."""


def quantize(backbone: Backbone, tuning: Tuning) -> None:
    """Replace the frozen linear layers of the trunk (and of the tower, with `quantize_vision`), in place.

    Layers that are quantised already, as in a policy just loaded, stay as they are. What remains in half precision is
    raised to float32, as peft's `prepare_model_for_kbit_training` does.

    Raises:
        UserError: bitsandbytes is not installed; there is no layer to quantise.
    """
    _bitsandbytes()
    for name, layer in list(_candidates(backbone, tuning)):
        weight = layer.weight.detach()
        backbone.set_submodule(name, four_bit(layer, weight, "nf4") if tuning.quantize == "nf4" else eight_bit(layer, weight))
    if not any(map(is_quantized, backbone.modules())):
        raise UserError("tuning.quantize", f"{type(backbone).__name__} has no linear layer to quantise there", "at least one",
                        "set tuning.quantize=null")
    for parameter in backbone.parameters():
        if parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()
    _mark(backbone, tuning.quantize)


def holds_quantized(weights: dict[str, Tensor]) -> bool:
    """Whether a saved policy has layers in fewer bits than it was built with."""
    return any(key.endswith((NF4, FP4, INT8, *KEPT)) or value.dtype == torch.bfloat16 for key, value in weights.items())


def restore_quantized(model: nn.Module, weights: dict[str, Tensor], prefix: str = "") -> None:
    """Give `model`, just built in full precision, the quantised layers found in `weights` (whose names begin with `prefix`).

    Only those layers are filled; the other weights are left to whoever loads them.
    """
    layers = dict(model.named_modules())
    for full, beside in _by_layer(weights, prefix).items():
        name, packed = full.removeprefix(prefix), beside["weight"]
        four = next((how for how, ending in (("nf4", NF4), ("fp4", FP4)) if f"{full}{ending}" in weights), None)
        told = four or f"{full}{INT8}" in weights or any(ending[1:] in beside for ending in KEPT)
        layer = layers.get(name)
        if not isinstance(layer, nn.Linear | nn.Embedding | nn.Conv2d):
            if told:
                raise UserError(f"quantised layer '{name}'", f"{type(model).__name__} has no such layer", "the same parts",
                                "load it with the version of this project that wrote it")
            continue
        if four:
            stats = {k.removeprefix("weight."): v for k, v in beside.items() if k.startswith("weight.")}
            made: nn.Module | None = four_bit(layer, packed, four, stats)
        elif f"{full}{INT8}" in weights:
            made = eight_bit(layer, packed, weights[f"{full}{INT8}"])
        else:
            made = restored(layer, packed, beside)
        if made is not None:
            model.set_submodule(name, made)


def _by_layer(weights: dict[str, Tensor], prefix: str) -> dict[str, dict[str, Tensor]]:
    """Of every layer with a weight, its tensors by the rest of their names."""
    found: dict[str, dict[str, Tensor]] = {key.removesuffix(".weight"): {} for key in weights
                                           if key.startswith(prefix) and key.endswith(".weight")}
    for key, value in weights.items():
        full = key
        while full and full not in found:
            full = full.rpartition(".")[0]
        if full:
            found[full][key.removeprefix(f"{full}.")] = value
    return found


@contextmanager
def unwritten() -> Iterator[None]:
    """Modules built inside have undefined weights, which need no memory until they are written: for a skeleton whose
    layers are about to be replaced or loaded, every one of them."""
    from transformers.initialization import no_init_weights

    with no_init_weights():
        yield


def is_quantized(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and (not module.weight.is_floating_point() or isinstance(module, Kept))


def elements(parameter: Tensor) -> int:
    """How many weights a parameter stands for: two to a byte in nf4."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else state.shape.numel()


def size(parameter: Tensor) -> int:
    """Bytes of a parameter, with the scales of its quantisation."""
    total = parameter.numel() * parameter.element_size()
    state = getattr(parameter, "quant_state", None)
    if state is not None:
        scales = [state.absmax, state.code, *((state.state2.absmax, state.state2.code) if state.nested else ())]
        total += sum(scale.numel() * scale.element_size() for scale in scales)
    elif parameter.dtype == torch.int8:
        total += 4 * parameter.shape[0]
    return total


def _candidates(backbone: Backbone, tuning: Tuning) -> Iterator[tuple[str, nn.Linear]]:
    """Plain linear layers in the parts to quantise whose weight is their own, and that `tuning.trainable` does not name."""
    parts = {"trunk", "vision"} if tuning.quantize_vision else {"trunk"}
    owners = Counter(id(module.weight) for module in backbone.modules() if isinstance(getattr(module, "weight", None), Tensor))
    output = {id(module.get_output_embeddings()) for module in backbone.modules() if hasattr(module, "get_output_embeddings")}
    for name, module in backbone.named_modules():
        trained = any(re.search(expression, f"{name}.weight") for expression in tuning.trainable)
        if (type(module) is nn.Linear and part_of(backbone, name) in parts and not trained
                and owners[id(module.weight)] == 1 and id(module) not in output):
            yield name, module


def four_bit(layer: nn.Linear, weight: Tensor, how: str, stats: dict[str, Tensor] | None = None) -> nn.Module:
    """`layer` with `weight` in nf4 or fp4: quantised now, or already (then with its statistics)."""
    bnb = _bitsandbytes()
    from vla.tuning.nf4 import Nf4Linear

    made = Nf4Linear(layer.in_features, layer.out_features, layer.bias is not None, quant_type=how, device="meta")
    if stats is None:
        made.weight = bnb.nn.Params4bit(weight, quant_type=how, module=made).to(weight.device)
    else:
        made.weight = bnb.nn.Params4bit.from_prequantized(weight, dict(stats), device=weight.device, module=made)
    made.bias = layer.bias
    return made.train(layer.training)


def eight_bit(layer: nn.Linear, weight: Tensor, scale: Tensor | None = None) -> nn.Module:
    """`layer` with `weight` in int8: quantised now, or already (then with its rows' scales)."""
    bnb = _bitsandbytes()
    made = bnb.nn.Linear8bitLt(
        layer.in_features, layer.out_features, layer.bias is not None, has_fp16_weights=False, threshold=OUTLIERS, device="meta")
    if scale is None:
        made.weight = bnb.nn.Int8Params(weight, requires_grad=False).to(weight.device)
    else:
        made.weight = bnb.nn.Int8Params(weight, requires_grad=False, CB=weight, SCB=scale)
    made.bias = layer.bias
    return made.train(layer.training)


def _mark(backbone: Backbone, how: str) -> None:
    """Tell peft, by transformers' name for it, so that it adapts the layers as what they are."""
    backbone.is_loaded_in_4bit, backbone.is_loaded_in_8bit = how == "nf4", how == "int8"


def _bitsandbytes() -> ModuleType:
    try:
        import bitsandbytes
    except ImportError:
        raise UserError("tuning.quantize", "bitsandbytes is not installed", "the extra 'train' or 'serve'",
                        "pip install 'swapvla[serve]'") from None
    # It says at every single product of every layer that it computes in half precision.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    return bitsandbytes

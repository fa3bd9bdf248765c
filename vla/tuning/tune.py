"""What of a backbone is trained: everything, low-rank adapters (LoRA, through peft), or nothing but what is new.

A backbone has four parts: its vision tower (`Backbone.vision`), its projector (`Backbone.projector`), its `new_modules` (never
pretrained, so always trained), and the trunk, which is the rest: the language model. `tuning.vision`, `tuning.projector` and
`tuning.mode` say how the tower, the projector and the trunk are trained. Two lists of regular expressions over parameter names
then cut across the parts: `tuning.frozen` (the word embeddings, say) and `tuning.trainable` (the last layer, say), the second
having the last word. With `tuning.quantize` the frozen linear layers are kept in four or eight bits (QLoRA, arXiv 2305.14314).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from torch import nn

from backbones.context import Backbone
from robot_io import UserError
from vla.recipe import Tuning
from vla.tuning.names import is_adapter, part_of, plain_name
from vla.tuning.quantize import quantize

ADAPTABLE = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers that peft has an adapter for, of those that backbones are made of."""


def tune(backbone: Backbone, tuning: Tuning, adapter: Path | None = None) -> nn.Module:
    """Freeze, unfreeze and quantise the parts of `backbone`, and add adapters if asked for.

    Args:
        adapter: a folder in peft's format to take the adapters' weights from; None starts them anew (as identity).

    Returns:
        the backbone itself, or a `PeftModel` around it that forwards every attribute to it.

    Raises:
        UserError: an expression that finds nothing, a part without layers for LoRA, quantised weights that should be trained.
    """
    how = modes(tuning)
    targets = _lora_targets(backbone, tuning, how) if "lora" in how.values() else ""
    if tuning.quantize is not None:
        quantize(backbone, tuning)
    tuned: nn.Module = backbone
    if targets:
        from peft import LoraConfig, PeftModel, get_peft_model  # slow to import, and only LoRA needs it

        if adapter is None:
            lora = tuning.lora
            tuned = get_peft_model(backbone, LoraConfig(
                r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, use_dora=lora.dora, use_rslora=lora.rslora,
                target_modules=targets))
        else:
            tuned = PeftModel.from_pretrained(backbone, adapter, is_trainable=True)
    _require_grad(tuned, backbone, tuning, how)
    return tuned


def modes(tuning: Tuning) -> dict[str, str]:
    """How each part is trained: 'full', 'lora' or 'frozen'."""
    return {"trunk": tuning.mode, "vision": tuning.vision, "projector": tuning.projector or tuning.vision, "new": "full"}


def _require_grad(tuned: nn.Module, backbone: Backbone, tuning: Tuning, how: dict[str, str]) -> None:
    """Say of every parameter whether it is trained: first by its part, then by the expressions."""
    found: set[str] = set()
    for name, parameter in tuned.named_parameters():
        plain = plain_name(name)
        trained = is_adapter(name) or how[part_of(backbone, plain)] == "full"
        for expressions, answer in ((tuning.frozen, False), (tuning.trainable, True)):
            hits = [expression for expression in expressions if re.search(expression, plain)]
            found.update(hits)
            trained = answer if hits else trained
        if trained and not parameter.is_floating_point():
            raise UserError("tuning", f"'{plain}' should be trained but is quantised ({tuning.quantize})", "either, not both",
                            "narrow tuning.trainable, or set tuning.quantize=null")
        parameter.requires_grad_(trained)
    names = [plain_name(name) for name, _ in tuned.named_parameters()]
    for field in ("frozen", "trainable"):
        _each_finds(f"tuning.{field}", getattr(tuning, field), found, names, f"parameter of {type(backbone).__name__}")


def _lora_targets(backbone: Backbone, tuning: Tuning, how: dict[str, str]) -> str:
    """An expression for peft that matches exactly the layers to adapt: those that the backbone, or the user, names, in the
    parts that want LoRA. A projector that the recipe does not mention and that has no such layer is simply frozen."""
    expressions = tuning.lora.targets or (backbone.lora_targets,)
    adaptable = [name for name, module in backbone.named_modules() if _adaptable(module)]
    named = [name for name in adaptable if any(re.fullmatch(expression, name) for expression in expressions)]
    parts = {name: part_of(backbone, name) for name in named}
    if tuning.lora.targets:
        found = {e for e in expressions for name in named if how[parts[name]] == "lora" and re.fullmatch(e, name)}
        _each_finds("tuning.lora.targets", expressions, found, adaptable, "layer in the parts to be tuned with LoRA")
    for part, noun in (("trunk", "trunk"), ("vision", "vision tower"), ("projector", "projector")):
        asked = getattr(tuning, "mode" if part == "trunk" else part) == "lora"
        if asked and not tuning.lora.targets and part not in parts.values():
            raise UserError("tuning", f"the {noun} of {type(backbone).__name__} has no layer that LoRA could adapt (its "
                            f"lora_targets are '{backbone.lora_targets}')", "a backbone that names some",
                            "name layers with tuning.lora.targets, tune it in full, or freeze it")
    return "|".join(re.escape(name) for name in named if how[parts[name]] == "lora")


def _adaptable(module: nn.Module) -> bool:
    return isinstance(module, ADAPTABLE) or type(module).__name__ == "Conv1D"  # transformers' transposed linear layer (GPT-2)


def _each_finds(field: str, expressions: Iterable[str], found: set[str], names: list[str], noun: str) -> None:
    for expression in expressions:
        if expression not in found:
            examples = ", ".join(names[:: max(1, len(names) // 4)][:4])
            raise UserError(f"{field} '{expression}'", f"matches no {noun}", f"an expression for names such as {examples}",
                            "correct the expression")

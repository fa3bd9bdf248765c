"""What of a policy is trained: everything, low-rank adapters (LoRA, through peft), or nothing but what is new.

A backbone has three parts: its vision tower (`Backbone.vision`), its `new_modules` (never pretrained, so always trained), and the
trunk, which is the rest. `tuning.mode` says how the trunk is trained, `tuning.vision` how the tower is. The head is always
trained in full. `parts_table` shows the outcome before any compute is spent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from torch import Tensor, nn

from backbones.context import Backbone
from robot_io import UserError
from vla.recipe import Train, Tuning

if TYPE_CHECKING:
    from vla.policy import Policy


def tune(backbone: Backbone, tuning: Tuning, adapter: Path | None = None) -> nn.Module:
    """Freeze and unfreeze the parts of `backbone`, and add adapters if asked for.

    Args:
        adapter: a folder in peft's format to take the adapters' weights from; None starts them anew (as identity).

    Returns:
        the backbone itself, or a `PeftModel` around it that forwards every attribute to it.
    """
    tuned: nn.Module = backbone
    if "lora" in (tuning.mode, tuning.vision):
        from peft import LoraConfig, PeftModel, get_peft_model  # slow to import, and only LoRA needs it

        if adapter is None:
            lora = tuning.lora
            tuned = get_peft_model(backbone, LoraConfig(
                r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, use_dora=lora.dora, use_rslora=lora.rslora,
                target_modules=_lora_targets(backbone, tuning)))
        else:
            tuned = PeftModel.from_pretrained(backbone, adapter, is_trainable=True)
    how = {"vision": tuning.vision, "new": "full", "trunk": tuning.mode}
    for name, parameter in tuned.named_parameters():
        if not is_adapter(name):
            parameter.requires_grad_(how[_part(backbone, plain_name(name))] == "full")
    return tuned


def _lora_targets(backbone: Backbone, tuning: Tuning) -> str:
    """The backbone's own target expression, restricted to the parts that want LoRA."""
    inside_vision = rf"{re.escape(backbone.vision)}\."
    only = {("lora", "lora"): "", ("lora", "full"): f"(?!{inside_vision})", ("lora", "frozen"): f"(?!{inside_vision})"}.get(
        (tuning.mode, tuning.vision), f"(?={inside_vision})") if backbone.vision else ""
    targets = f"{only}(?:{backbone.lora_targets})"
    if not any(re.fullmatch(targets, name) for name, _ in backbone.named_modules()):
        part = "trunk" if tuning.mode == "lora" else "vision tower"
        raise UserError("tuning", f"the {part} of {type(backbone).__name__} has no layer that LoRA could adapt (its lora_targets "
                        f"are '{backbone.lora_targets}')", "a backbone that names some", "tune it in full, or freeze it")
    return targets


def _part(backbone: Backbone, name: str) -> str:
    def inside(module: str) -> bool:
        return name == module or name.startswith(f"{module}.")

    if any(map(inside, backbone.new_modules)):
        return "new"
    return "vision" if backbone.vision and inside(backbone.vision) else "trunk"


def is_adapter(name: str) -> bool:
    """Whether a parameter belongs to an adapter: it is saved in `adapter/`, not in `model.safetensors`."""
    return ".lora_" in name


def plain_name(name: str) -> str:
    """A parameter's name as if there were no adapters, so that weights load with and without them."""
    return name.replace("base_model.model.", "").replace(".base_layer.", ".")


@dataclass(frozen=True)
class Part:
    """`total` and `trainable` count parameters; `megabytes` is what they need while training (not activations)."""

    name: str
    total: int
    trainable: int
    megabytes: float


def parts(policy: Policy, train: Train) -> list[Part]:
    """Parameters by part. Memory: float32 weights; for trainable ones also a gradient, Adam's two moments, and the average."""
    backbone = policy.plain_backbone
    groups: dict[str, list[Tensor]] = {}
    for name, parameter in policy.named_parameters():
        module, _, rest = name.partition(".")
        if is_adapter(name):
            module = "backbone: adapters"
        elif module == "backbone":
            module = f"backbone: {_part(backbone, plain_name(rest))}"
        groups.setdefault(module.replace("front_ends", "perception"), []).append(parameter)
    copies = 3 if train.ema is None else 4
    result = []
    for name, parameters in groups.items():
        trainable = sum(p.numel() for p in parameters if p.requires_grad)
        size = sum(p.numel() * p.element_size() for p in parameters) + 4 * copies * trainable
        result.append(Part(name, sum(p.numel() for p in parameters), trainable, size / 1e6))
    return result


def parts_table(policy: Policy, train: Train) -> Table:
    """The table printed before training: what there is, what is trained, what it needs in memory."""
    rows = parts(policy, train)
    table = Table(title="parameters")
    table.add_column("part")
    for heading in ("total", "trainable", "memory, MB"):
        table.add_column(heading, justify="right")
    everything = Part("all", *(sum(getattr(row, field) for row in rows) for field in ("total", "trainable", "megabytes")))
    for row in (*rows, everything):
        if row is everything:
            table.add_section()
        table.add_row(row.name, f"{row.total:,}", f"{row.trainable:,}", f"{row.megabytes:,.1f}")
    return table

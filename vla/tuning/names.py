"""Parameters by name: to which part of a backbone they belong, and what they are called with and without adapters."""

from __future__ import annotations

from typing import Literal

from backbones.context import Backbone

BackbonePart = Literal["new", "projector", "vision", "trunk"]


def part_of(backbone: Backbone, name: str) -> BackbonePart:
    """The part of `backbone` that the module or parameter `name` (plain) lies in."""
    def inside(module: str) -> bool:
        return name == module or name.startswith(f"{module}.")

    if any(map(inside, backbone.new_modules)):
        return "new"
    if backbone.projector and inside(backbone.projector):  # before vision: it may lie inside the tower
        return "projector"
    return "vision" if backbone.vision and inside(backbone.vision) else "trunk"


def is_adapter(name: str) -> bool:
    """Whether a parameter belongs to an adapter: it is saved in `adapter/`, not in `model.safetensors`."""
    return ".lora_" in name


def plain_name(name: str) -> str:
    """A parameter's name as if there were no adapters, so that weights load with and without them."""
    return name.replace("base_model.model.", "").replace(".base_layer.", ".")

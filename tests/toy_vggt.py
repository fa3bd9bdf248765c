"""VGGT's own classes at toy size, written as the checkpoints that they are loaded from."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from perception.vggt.model import Sizes, Vggt

SIZES = Sizes(dim=16, heads=2, eye_depth=1, depth=2, patch=14, image_size=56, depth_layers=(0, 0, 1, 1), channels=(8, 8, 8, 8), features=8)


def toy_vggt(seed: int = 0) -> Vggt:
    """Every weight random, also those that start at 0 or 1."""
    torch.manual_seed(seed)
    return randomised(Vggt(SIZES)).eval()


def randomised(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def write_vggt(folder: Path, seed: int = 0, **changes: torch.Tensor | None) -> Path:
    """A folder as published: with a head that is not used; `changes` adds tensors, or leaves some out (None), `__` being a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = toy_vggt(seed).state_dict() | {"camera_head.trunk.0.norm1.weight": torch.ones(3)}
    weights |= {name.replace("__", "."): value for name, value in changes.items()}
    save_file({name: value.contiguous() for name, value in weights.items() if value is not None}, folder / "model.safetensors",
              metadata={"sizes": json.dumps(asdict(SIZES))})
    return folder


def write_dino(folder: Path, registers: int = 4) -> Path:
    """DINOv2 as transformers saves it."""
    from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56, "patch_size": 14}
    torch.manual_seed(0)
    model = (Dinov2WithRegistersModel(Dinov2WithRegistersConfig(num_register_tokens=registers, **sizes)) if registers
             else Dinov2Model(Dinov2Config(**sizes)))
    randomised(model).save_pretrained(folder)
    return folder

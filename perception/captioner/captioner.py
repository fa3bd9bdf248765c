"""`kind: embedded`: the shipped captioner, a few milliseconds a picture. It knows what it was trained on and nothing else."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from perception.captioner.storage import load_weights, shipped
from perception.captioner.words import clauses
from perception.percept import Batch, Percept
from robot_io.registry import ComponentConfig


class EmbeddedCaptioner(nn.Module):
    """See the module's head."""

    class Config(ComponentConfig):
        kind: Literal["embedded"] = "embedded"
        weights: str = Field("household", description="shipped weights by name, or a .safetensors file")
        at_most: int = Field(4, ge=1, description="things that are named; of more only their number is told")

    def __init__(self, config: Config | None = None, **options: object) -> None:
        super().__init__()
        self.config = config or self.Config(**options)
        self.model, self.words = load_weights(shipped(self.config.weights))
        self.model.eval().requires_grad_(False)

    def describe(self, batch: Batch, percept: Percept, camera: str) -> list[str]:
        images = batch.rgb[camera].permute(0, 3, 1, 2).float() / 255
        return [clauses(text, self.config.at_most) for text in self.captions(images)]

    def captions(self, images: torch.Tensor) -> list[str]:
        """`images [B, 3, H, W]` in [0, 1] → whole captions."""
        return [self.words.decode(said) for said in self.model.write(images).tolist()]

"""A backbone with every part that tuning knows, of a few thousand parameters, as plain layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from backbones.context import Backbone


class Toy(Backbone):
    """`[B, 3] -> [B, 32]`: eye, projector (inside the eye's module), words, two layers, an output tied to nothing, one new part."""

    dim, queries = 32, 1
    vision, projector, new_modules = "eye", "eye.projector", ("state",)
    lora_targets = r"eye\.(see|projector)|layers\.\d+\.up"

    def __init__(self, half: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.eye = nn.ModuleDict({"see": nn.Linear(3, 32), "projector": nn.Linear(32, 32)})
        self.words = nn.Embedding(5, 32)
        self.layers = nn.ModuleList(nn.ModuleDict({"up": nn.Linear(32, 64), "down": nn.Linear(64, 32)}) for _ in range(2))
        self.norm = nn.LayerNorm(32)
        self.state = nn.Linear(32, 32)
        if half:
            self.bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        x = self.eye["projector"](self.eye["see"](x).tanh()) + self.words(torch.zeros(len(x), dtype=torch.long))
        for layer in self.layers:
            x = x + layer["down"](layer["up"](x).relu())
        return self.state(self.norm(x))

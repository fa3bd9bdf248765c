"""For what begins as nothing, such as a new head or adapter: noise on its parameters, so that what it says can be told apart."""

from __future__ import annotations

import torch
from torch import nn


def stir(module: nn.Module, amount: float = 0.1) -> None:
    """Always the same noise, of this deviation."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(amount * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))

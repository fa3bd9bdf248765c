"""AdamW, a learning rate that is a function of the step, and a moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from robot_io import UserError
from vla.recipe import Train


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name, always in the same order."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def make_optimizer(module: nn.Module, train: Train) -> torch.optim.AdamW:
    """AdamW; weight decay only on matrices, not on biases, norms and embeddings of position.

    Raises:
        UserError: nothing is trained.
    """
    parameters = trainable(module).values()
    if not parameters:
        raise UserError("tuning", "nothing is left to train: the backbone is frozen and the head has no parameters of its own",
                        "something to train", "set tuning.mode to lora or full, or choose a head with parameters")
    return torch.optim.AdamW(
        [{"params": [p for p in parameters if p.ndim >= 2], "weight_decay": train.weight_decay},
         {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}],
        lr=train.learning_rate, betas=train.betas, fused=True,
    )


def learning_rate(step: int, train: Train) -> float:
    """Of step `step` (from 0): linear warm-up, then a cosine down to `final_learning_rate` of the peak."""
    if step < train.warmup:
        return train.learning_rate * (step + 1) / train.warmup
    progress = (step - train.warmup) / max(1, train.steps - train.warmup)
    cosine = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return train.learning_rate * (train.final_learning_rate + (1 - train.final_learning_rate) * cosine)


class Ema:
    """Exponential moving average of the trainable parameters (as in Diffusion Policy, arXiv 2303.04137).

    The decay warms up as (1 + k) / (10 + k), so that early, random weights are forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = trainable(module)
        self.average: dict[str, Tensor] = {name: p.detach().clone() for name, p in self.parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After optimizer step `step` (from 0)."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), weight)

    @torch.no_grad()
    def apply(self) -> None:
        """Put the average into the module for good."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.average[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module holds the average inside the block, and its own weights again after it."""
        own = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        self.apply()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(own[name])

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from robot_io import UserError
from vla.recipe import Train
from vla.train.optimizer import Ema, learning_rate, make_optimizer

TRAIN = Train(steps=100, warmup=10, learning_rate=1.0, final_learning_rate=0.1)


def test_learning_rate_warms_up_then_falls_to_its_end():
    rates = [learning_rate(step, TRAIN) for step in range(101)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10] == 1.0
    assert all(later < earlier for earlier, later in pairwise(rates[10:]))
    assert rates[100] == pytest.approx(0.1)


def test_no_warmup_starts_at_the_peak():
    assert learning_rate(0, TRAIN.model_copy(update={"warmup": 0})) == 1.0


def test_only_matrices_decay():
    module = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    groups = make_optimizer(module, Train(weight_decay=0.3)).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert {name: decay[id(p)] for name, p in module.named_parameters()} == {
        "0.weight": 0.3, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0}


def test_the_average_follows_and_is_only_lent():
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 0.0)
    ema = Ema(module, 0.5)
    nn.init.constant_(module.weight, 1.0)
    ema.update(step=0)  # warm-up: decay 1/10
    assert ema.average["weight"].item() == pytest.approx(0.9)
    for step in range(1000, 1003):
        ema.update(step)
    assert ema.average["weight"].item() == pytest.approx(1 - 0.1 * 0.5**3)
    with ema.applied():
        assert module.weight.item() == ema.average["weight"].item()
    assert module.weight.item() == 1.0


def test_frozen_parameters_are_neither_averaged_nor_optimised():
    module = nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    assert list(Ema(module, 0.9).average) == ["weight"]
    assert sum(len(group["params"]) for group in make_optimizer(module, TRAIN).param_groups) == 1
    assert torch.is_tensor(module.bias)


def test_nothing_to_train_is_said_so():
    with pytest.raises(UserError, match="nothing is left to train"):
        make_optimizer(nn.Linear(3, 3).requires_grad_(False), TRAIN)

"""Which parameters are trained: by part, by expression, and by adapter."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from toy_backbone import Toy

from backbones.context import Backbone
from robot_io import UserError
from vla.recipe import Tuning
from vla.tuning import is_adapter, plain_name, tune

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))


def tuned(**options) -> nn.Module:
    return tune(Toy(), Tuning.model_validate(options))


def trained(module: nn.Module) -> set[str]:
    """Parameters that a backward pass reaches, adapters as the layer they adapt."""
    for parameter in module.parameters():
        parameter.grad = None
    for name, parameter in module.named_parameters():  # a new adapter's second matrix is zero and would hide the first
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    module(X).square().sum().backward()
    reached = set()
    for name, parameter in module.named_parameters():
        if parameter.grad is not None and parameter.grad.abs().sum() > 0:
            reached.add(plain_name(name).split(".lora_")[0] + (".lora" if is_adapter(name) else ""))
    return reached


EYE = {"eye.see.weight", "eye.see.bias"}
PROJECTOR = {"eye.projector.weight", "eye.projector.bias"}
NEW = {"state.weight", "state.bias"}
TRUNK = {"words.weight", "norm.weight", "norm.bias"} | {
    f"layers.{i}.{layer}.{kind}" for i in (0, 1) for layer in ("up", "down") for kind in ("weight", "bias")}
LAST = {name for name in TRUNK if name.startswith("layers.1.")}
ADAPTED = {"layers.0.up.lora", "layers.1.up.lora"}


@pytest.mark.parametrize(("options", "expected"), [
    ({}, EYE | PROJECTOR | NEW | TRUNK),
    ({"mode": "frozen", "vision": "frozen"}, NEW),
    ({"mode": "frozen", "vision": "frozen", "projector": "full"}, PROJECTOR | NEW),
    ({"mode": "full", "vision": "full", "projector": "frozen"}, EYE | NEW | TRUNK),
    ({"mode": "lora", "vision": "frozen"}, ADAPTED | NEW),
    ({"mode": "lora", "vision": "full", "projector": "lora"}, ADAPTED | EYE | {"eye.projector.lora"} | NEW),
    ({"mode": "frozen", "vision": "lora"}, {"eye.see.lora", "eye.projector.lora"} | NEW),
    ({"mode": "lora", "vision": "frozen", "lora": {"targets": [r"layers\.1\.(up|down)", "words"]}},
     {"layers.1.up.lora", "layers.1.down.lora", "words.lora"} | NEW),
    ({"mode": "full", "frozen": ["^words"]}, EYE | PROJECTOR | NEW | TRUNK - {"words.weight"}),
    ({"mode": "frozen", "vision": "frozen", "trainable": [r"^layers\.1\."]}, LAST | NEW),
    ({"mode": "full", "vision": "frozen", "frozen": ["layers"], "trainable": [r"layers\.1"]},
     {"words.weight", "norm.weight", "norm.bias"} | LAST | NEW),
    ({"mode": "lora", "vision": "frozen", "frozen": [r"layers\.0"]}, {"layers.1.up.lora"} | NEW),
], ids=["everything", "new", "projector", "all but projector", "lora", "lora and a projector's", "lora tower", "own targets",
        "frozen words", "last layer", "trainable wins", "lora but the first layer"])
def test_exactly_these_parameters_get_gradients(options: dict, expected: set[str]):
    assert trained(tuned(**options)) == expected


@pytest.mark.parametrize(("options", "found"), [
    ({"frozen": ["layer\\."]}, r"tuning.frozen 'layer\\.': matches no parameter of Toy"),
    ({"trainable": ["nothing"]}, "tuning.trainable 'nothing'"),
    ({"mode": "lora", "lora": {"targets": ["layers"]}}, "tuning.lora.targets 'layers'"),
    ({"mode": "lora", "vision": "frozen", "lora": {"targets": [r"eye\.see"]}}, "matches no layer in the parts to be tuned"),
])
def test_an_expression_that_finds_nothing_is_an_error(options: dict, found: str):
    with pytest.raises(UserError, match=found.replace(": ", ".*")):
        tuned(**options)


@pytest.mark.parametrize("lora", [{}, {"dora": True}, {"rslora": True, "rank": 4}, {"dora": True, "rslora": True}],
                         ids=["lora", "dora", "rslora", "both"])
def test_merging_an_adapter_changes_nothing(lora: dict):
    module = tuned(mode="lora", vision="lora", lora=lora).eval()
    assert torch.equal(module(X), Toy()(X)) or lora.get("dora")
    torch.testing.assert_close(module(X), Toy()(X))
    for name, parameter in module.named_parameters():
        if is_adapter(name):
            nn.init.normal_(parameter, mean=1.0 if "magnitude" in name else 0.0, std=0.1)
    before = module(X)
    assert (before - Toy()(X)).abs().max() > 0.01
    merged = module.merge_and_unload()
    assert isinstance(merged, Backbone)
    torch.testing.assert_close(merged(X), before, atol=1e-5, rtol=1e-5)


def test_rslora_scales_by_the_root_of_the_rank():
    scale = {flag: tuned(mode="lora", lora={"rank": 4, "alpha": 8, "rslora": flag}).base_model.model.layers[0].up.scaling["default"]
             for flag in (False, True)}
    assert scale == {False: 2.0, True: 4.0}


def test_dora_learns_one_magnitude_per_output():
    plain, dora = (tuned(mode="lora", vision="frozen", lora={"dora": flag}) for flag in (False, True))
    count = [sum(p.numel() for name, p in module.named_parameters() if is_adapter(name)) for module in (plain, dora)]
    assert count[1] - count[0] == 2 * 64

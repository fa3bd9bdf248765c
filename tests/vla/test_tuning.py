from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from rich.console import Console
from torch import nn

from robot_io import UserError
from vla.assembly import assemble
from vla.data import Demonstrations
from vla.policy import Policy
from vla.tuning import is_adapter, parts, parts_table


def build(recipe) -> Policy:
    data = Demonstrations(recipe)
    return Policy.build(recipe, data.spec, data.normalizer())


def by_part(policy: Policy) -> dict[str, tuple[int, int]]:
    return {part.name: (part.total, part.trainable) for part in parts(policy, policy.recipe.train)}


def test_lora_adds_rank_times_in_plus_out_for_every_target(toy_recipe: Callable):
    policy = build(toy_recipe("tuning.mode=lora", "tuning.vision=frozen", "tuning.lora.rank=3"))
    plain = assemble(policy.recipe, policy.spec)[2]
    layer = plain.layers[0]
    targets = [*(getattr(layer.attend, name) for name in "qkvo"), layer.look.q, layer.look.o, layer.up, layer.down]
    expected = len(plain.layers) * sum(3 * (linear.in_features + linear.out_features) for linear in targets)
    counts = by_part(policy)
    assert counts["backbone: adapters"] == (expected, expected)
    assert counts["backbone: trunk"][1] == 0
    assert counts["backbone: vision"][1] == 0
    assert counts["backbone: new"][0] == counts["backbone: new"][1] > 0
    assert counts["head"][0] == counts["head"][1] > 0


@pytest.mark.parametrize(("mode", "vision"), [("full", "full"), ("full", "frozen"), ("frozen", "full"), ("frozen", "frozen"),
                                              ("lora", "full")])
def test_trunk_and_tower_are_tuned_separately(toy_recipe: Callable, mode: str, vision: str):
    counts = by_part(build(toy_recipe(f"tuning.mode={mode}", f"tuning.vision={vision}")))
    assert (counts["backbone: trunk"][1] > 0) == (mode == "full")
    assert (counts["backbone: vision"][1] > 0) == (vision == "full")
    assert counts["backbone: new"][1] > 0
    assert ("backbone: adapters" in counts) == (mode == "lora")


def test_a_new_adapter_changes_nothing_yet(toy_recipe: Callable):
    full, lora = build(toy_recipe()), build(toy_recipe("tuning.mode=lora"))
    x = torch.randn(2, 5, 16)
    mask = torch.ones(2, 5, dtype=torch.bool)
    ours, theirs = (policy.plain_backbone.layers[0](x, mask, x)[0] for policy in (full, lora))
    assert torch.equal(ours, theirs)


def test_dora_and_rslora_reach_peft(toy_recipe: Callable):
    policy = build(toy_recipe("tuning.mode=lora", "tuning.lora.dora=true", "tuning.lora.rslora=true"))
    config = policy.backbone.peft_config["default"]
    assert config.use_dora
    assert config.use_rslora


def test_the_saved_adapter_is_peft_s_own(toy_recipe: Callable, tmp_path: Path):
    policy = build(toy_recipe("tuning.mode=lora"))
    for name, parameter in policy.named_parameters():
        if is_adapter(name):
            nn.init.normal_(parameter)
    policy.save(tmp_path / "policy")
    plain = assemble(policy.recipe, policy.spec)[2]
    theirs = PeftModel.from_pretrained(plain, tmp_path / "policy" / "adapter").state_dict()
    ours = {name: value for name, value in policy.backbone.state_dict().items() if is_adapter(name)}
    assert ours
    assert all(torch.equal(theirs[name], value) for name, value in ours.items())


def test_a_part_without_layers_for_lora_is_named(toy_recipe: Callable):
    with pytest.raises(UserError, match="vision tower of Tiny has no layer that LoRA could adapt"):
        build(toy_recipe("tuning.vision=lora"))


def test_frozen_parts_stay_in_evaluation_mode(toy_recipe: Callable):
    policy = build(toy_recipe("tuning.vision=frozen")).train()
    assert policy.head.training
    assert not policy.plain_backbone.eye.training


def test_the_table_adds_up(toy_recipe: Callable):
    policy = build(toy_recipe("tuning.mode=lora"))
    console = Console(record=True, width=100)
    console.print(parts_table(policy, policy.recipe.train))
    assert f"{sum(p.numel() for p in policy.parameters()):,}" in console.export_text()

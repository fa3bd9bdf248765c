"""`vla quantize`: the search finds the best mix that fits, the page says what was measured, and nothing is left half done."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stirred import stir

from robot_io import UserError
from vla.data import Demonstrations
from vla.policy import Policy
from vla.serve import fidelity
from vla.serve.fidelity import Option, search
from vla.serve.quantize import layers, memory, quantize_policy
from vla.serve.shrink import Wish, shrink


@pytest.fixture(scope="module")
def run(toy_recipe: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose policy has adapters and a head that is not zero."""
    recipe = toy_recipe("head.kind=diffusion", "tuning.mode=lora", "tuning.vision=frozen", "backbone.layers=2",
                        "robot={kind: 'toy_robot:ToyRobot'}")
    data = Demonstrations(recipe)
    policy = Policy.build(recipe, data.spec, data.normalizer())
    stir(policy.head)
    folder = tmp_path_factory.mktemp("run")
    policy.save(folder / "policy")
    return folder


def made_up(blocks: int = 4, seed: int = 0) -> list[Option]:
    random = np.random.default_rng(seed)
    found = []
    for block in range(blocks):
        size, pain = int(random.integers(100, 1000)), random.random() * 10
        found += [Option(f"b{block}", how, size * bits // 16, size * bits / 1e3, 0.0 if how == "full" else pain * 2.0 ** -(bits / 2))
                  for how, bits in (("full", 32), ("bf16", 16), ("int8", 8), ("int4", 4))]
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cost", ["bytes", "milliseconds"])
def test_the_search_is_within_the_budget_and_near_the_best_mix(seed: int, cost: str) -> None:
    found = made_up(seed=seed)
    blocks = [list(group) for _, group in itertools.groupby(found, key=lambda option: option.block)]
    mixes = [(sum(getattr(o, cost) for o in mix), sum(o.error**2 for o in mix)) for mix in itertools.product(*blocks)]
    full, least = max(total for total, _ in mixes), min(total for total, _ in mixes)
    for share in (0.9, 0.5, 0.3, 0.15):
        budget = max(share * full, least)
        chosen = search(found, budget, cost)
        picked = [next(o for o in group if o.format == chosen[o.block]) for group in blocks]
        best = min(error for total, error in mixes if total <= budget)
        # Greedy may leave at most one block's step unused.
        assert sum(getattr(o, cost) for o in picked) <= budget and sum(o.error**2 for o in picked) <= best + max(o.error**2 for o in found)
    assert set(search(found, full, cost).values()) == {"full"}
    with pytest.raises(UserError, match="the layers take"):
        search(found, 0.9 * least, cost)


def test_errors_are_zero_against_itself_and_grow_with_fewer_bits(run: Path) -> None:
    policy = Policy.load(run / "policy")
    batches = fidelity.held_out(policy, 10)
    full = fidelity.chunks(policy, batches)
    assert full.shape[1:] == (4, 2) and np.array_equal(full, fidelity.chunks(policy, batches))
    errors = []
    for how in ("bf16", "int8", "int4"):
        made = fidelity.chunks(quantize_policy(Policy.load(run / "policy"), {"trunk": how, "head": how}), batches)
        errors.append(fidelity.relative_error(made, full, policy.spec.action))
        assert fidelity.mean_error(made, full).shape == (2,)
    assert 0 < errors[0] < errors[1] < errors[2]
    tried = list(fidelity.options(policy, batches[:1], ("int8", "int4")))
    assert np.array_equal(full, fidelity.chunks(policy, batches))  # as before
    assert {option.block for option in tried} == {layer.block for layer in layers(policy) if {"int8", "int4"} & set(layer.formats)}
    assert all((option.error == 0) == (option.format == "full") or option.block.startswith("embeddings") for option in tried)
    assert all(option.milliseconds > 0 for option in tried if option.block.startswith("head"))


def test_the_page_tells_what_was_measured(run: Path, tmp_path: Path) -> None:
    wish = Wish({"trunk": "int8", "head": "int4"}, report=True, frames=8, formats=("int8", "int4"), trials=2)
    found = shrink(run, tmp_path / "policy", wish, command="vla quantize runs/toy")
    small = Policy.load(tmp_path / "policy")
    assert found["formats"] == {"trunk": "int8", "head": "int4"} and found["memory_mb"] == memory(small) / 1e6 < found["full_mb"]
    for page in ((tmp_path / "quantisation.md").read_text(), (tmp_path / "quantisation.html").read_text()):
        assert "vla quantize runs/toy" in page and "trunk.layers.0" in page and "closed loop" in page.lower()
        for error in found["error"].values():
            assert f"{error:.2g}" in page
    assert found["success"]["full"]["n"] == found["success"]["small"]["n"] == 2
    measured = json.loads((tmp_path / "quantisation.json").read_text())
    assert {block["format"] for block in measured["blocks"]} == {"full", "int8", "int4"}


def test_a_budget_decides_by_itself(run: Path, tmp_path: Path) -> None:
    policy = Policy.load(run / "policy")
    full = sum(option.bytes for option in fidelity.options(policy, fidelity.held_out(policy, 8), ("int8", "int4")) if option.format == "full")
    shrink(run, tmp_path / "policy", Wish({}, budget_mb=0.4 * full / 1e6, frames=8, formats=("int8", "int4")), command="")
    small = Policy.load(tmp_path / "policy")
    assert memory(policy) - memory(small) >= 0.59 * full
    with pytest.raises(UserError, match="told in two ways"):
        shrink(run, tmp_path / "policy", Wish({"trunk": "int8"}, budget_mb=1), command="")
    with pytest.raises(UserError, match="at least"):
        shrink(run, tmp_path / "other", Wish({}, budget_mb=1e-4, frames=8), command="")
    assert not (tmp_path / "other").exists()

"""The page of an ablation and grids in YAML: what a reader and a writer of them would notice."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from robot_io import UserError
from vla.ablate import Cell, Grid, Outcome, Quick
from vla.ablation import write_page
from vla.evaluate.episode import Trial
from vla.evaluate.evaluate import EvaluationResult
from vla.evaluate.trials import Setting
from vla.grids import find_grid
from vla.recipe import load_recipe

CELLS = [Cell({"eye": eye, "head": head}) for eye in ("raw", "grounded") for head in ("tokens", "flow")]
GRID = Grid("eyes", "toy", tuple(CELLS), seeds=(0,), trials=60)


def outcome(cell: Cell, successes: int, trials: int = 60) -> Outcome:
    recipe = load_recipe("toy")
    made = [Trial(20_000 + i, i < successes, False, 10, 1.0, 0.1, (2.0,), 0.1, "go") for i in range(trials)]
    setting = Setting("policy", recipe.hash, "spec", {"kind": "toy"}, 4, None)
    return Outcome(cell, 0, recipe, 3.0, 10, 1.0, EvaluationResult(setting, tuple(made), {}))


def test_the_page_ranks_cells_and_gives_letters(tmp_path: Path):
    write_page(GRID, [outcome(cell, n) for cell, n in zip(CELLS, (20, 22, 55, 57), strict=True)], tmp_path / "page.html", command="vla ablate eyes")
    page = (tmp_path / "page.html").read_text()
    table = page[: page.index("whatever the rest")]
    order = re.findall(r"<td>(raw|grounded)</td><td>(tokens|flow)</td>", table)
    assert order == [("grounded", "flow"), ("grounded", "tokens"), ("raw", "flow"), ("raw", "tokens")]
    assert re.findall(r'class="letters">(\w*)<', page) == ["a", "a", "b", "b"]
    assert "95.0 % <small>[86.3, 98.3]" in page, "57 of 60, Wilson"
    assert "93.3 % <small>[87.4, 96.6]" in page, "both grounded cells together: 112 of 120"
    assert page.count("<svg") > 4 and "vla ablate eyes" in page


def test_a_half_done_ablation_has_a_page_too(tmp_path: Path):
    outcomes = [outcome(CELLS[0], 20), outcome(CELLS[1], 5, trials=10)]
    write_page(GRID, outcomes, tmp_path / "page.html")
    assert re.findall(r'class="letters">(\w*)<', (tmp_path / "page.html").read_text()) == ["", ""], "never on different scenes"
    write_page(GRID, outcomes[:1], tmp_path / "page.html")


YAML = """
name: eyes
recipe: toy
seeds: [0, 1]
trials: 10
split: validation
quick: {overrides: [train.steps=7], trials: 3}
factors:
  horizon: {short: [horizon=4], long: [horizon=6]}
  head:
    diffusion: [head.kind=diffusion]
    tokens: [head.kind=tokens]
without: [{horizon: long, head: tokens}]
"""


def test_a_grid_in_yaml_is_every_combination(tmp_path: Path):
    (tmp_path / "eyes.yaml").write_text(YAML)
    grid = find_grid(str(tmp_path / "eyes.yaml"))
    assert [cell.label for cell in grid.cells] == ["short, diffusion", "short, tokens", "long, diffusion"]
    recipe = grid.resolve(grid.cells[2], seed=1)
    assert (recipe.horizon, recipe.head.kind, recipe.train.seed) == (6, "diffusion", 1)
    assert replace(grid, cells=()) == Grid("eyes", "toy", (), (), (0, 1), 10, "validation", Quick(("train.steps=7",), (0,), 3))
    quick = grid.quickly()
    assert (quick.name, quick.cells, quick.seeds, quick.trials) == ("eyes-quick", grid.cells, (0,), 3)
    assert quick.resolve(quick.cells[0], 0).train.steps == 7


def test_the_grid_of_perception_and_heads_looks_as_the_presets_do():
    grid = find_grid("perception_heads")
    seen = {cell.levels["perception"]: grid.resolve(cell, 0).to_dict()["perception"] for cell in grid.cells}
    for level, preset in {"raw": "raw", "object-centric": "grounded", "lift3d": "lifted", "fusion": "fused", "summary": "told"}.items():
        assert seen[level] == load_recipe(preset).to_dict()["perception"], level
    assert len(grid.cells) == 10


@pytest.mark.parametrize("wrong, message", [
    (("trials: 10", "trails: 10"), "trials"), (("head: tokens}", "head: token}"), "tokens"), (("split: validation", "split: train"), "split"),
    (("factors:", "factors: {}\nfactor:"), "at least one")])
def test_mistakes_in_it_are_named(tmp_path: Path, wrong: tuple[str, str], message: str):
    (tmp_path / "eyes.yaml").write_text(YAML.replace(*wrong))
    with pytest.raises(UserError, match=message):
        find_grid(str(tmp_path / "eyes.yaml"))

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from robot_io import UserError
from vla.recipe import Recipe, load_recipe
from vla.recipes import PRESETS


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_survives_the_trip_through_yaml(name: str, tmp_path: Path):
    recipe = PRESETS[name]()
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    again = load_recipe(path)
    assert again == recipe
    assert again.hash == recipe.hash
    assert type(again.head) is type(recipe.head)


def test_overrides_are_yaml_at_dotted_paths():
    recipe = load_recipe("toy", ["train.learning_rate=1e-4", "train.steps=7", "perception=[{kind: shift}]", "perception.0.pad=2",
                                 "data.cameras=[wrist, front]", "train.ema=null", "backbone.dim=32"])
    assert (recipe.train.learning_rate, recipe.train.steps, recipe.train.ema) == (1e-4, 7, None)
    assert (recipe.perception[0].kind, recipe.perception[0].pad) == ("shift", 2)
    assert recipe.data.cameras == ("wrist", "front")
    assert recipe.backbone.dim == 32


def test_another_kind_brings_its_own_defaults_whatever_the_order():
    first = load_recipe("toy", ["head.kind=diffusion", "head.steps=5"])
    assert first.head == type(first.head)(steps=5)
    assert load_recipe("toy", ["head.steps=5", "head.kind=diffusion"]) == first


def test_the_same_kind_again_keeps_its_options():
    assert load_recipe("toy", ["backbone.kind=tiny"]).backbone == load_recipe("toy").backbone


@pytest.mark.parametrize(("override", "words"), [
    ("train.stpes=3", ["train.stpes", "did you mean 'steps'"]),
    ("trian.steps=3", ["trian", "did you mean 'train'"]),
    ("tuning.lora.rnak=3", ["tuning.lora.rnak", "did you mean 'rank'"]),
    ("backbone.quieries=3", ["backbones 'tiny'", "quieries", "did you mean 'queries'"]),
    ("perception=[{kind: shift, padd: 3}]", ["perception 'shift'", "padd", "did you mean 'pad'"]),
    ("head.kind=difusion", ["difusion", "did you mean 'diffusion'"]),
    ("head=diffusion", ["{kind: diffusion}"]),
    ("train.steps=0", ["train.steps", "greater than or equal to 1"]),
    ("train.steps=soon", ["train.steps", "'soon'", "valid integer"]),
    ("train.steps.x=1", ["train.steps", "has no parts"]),
    ("perception.0.pad=1", ["perception.0", "0 entries"]),
    ("execute=99", ["execute", "horizon"]),
    ("train.steps", ["path.to.key=value"]),
    ("train.steps=[1", ["not YAML"]),
])
def test_a_mistake_is_one_sentence_that_names_it(override: str, words: list[str]):
    with pytest.raises(UserError) as error:
        load_recipe("toy", [override])
    for word in words:
        assert word in str(error.value)


def test_unknown_source_lists_the_presets():
    with pytest.raises(UserError, match=", ".join(sorted(PRESETS))):
        load_recipe("dmeo")


def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text("- 1\n- 2\n")
    with pytest.raises(UserError, match="holds a list"):
        load_recipe(path)


def test_hash_and_differences_ignore_how_a_run_is_carried_out():
    recipe = load_recipe("toy")
    same = load_recipe("toy", ["train.save_every=3", "data.root=/elsewhere", "evaluation.workers=7", "name=other"])
    other = load_recipe("toy", ["train.seed=3", "perception=[{kind: shift}]"])
    assert same.hash == recipe.hash
    assert recipe.differences(same) == []
    assert other.hash != recipe.hash
    assert "train.seed: 0 against 3" in recipe.differences(other)


def test_a_recipe_is_frozen():
    with pytest.raises(ValidationError):
        load_recipe("toy").horizon = 3


def test_missing_component_is_named():
    with pytest.raises(UserError, match=r"backbone.*missing"):
        Recipe.from_dict({"head": {"kind": "tokens"}})

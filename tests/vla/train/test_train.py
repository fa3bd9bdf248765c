"""Training end to end on the toy robot: it learns, it stops and goes on with the same bits, it refuses what is not its own."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toy_robot import ToyRobot

from robot_io import UserError
from vla.policy import Policy
from vla.recipe import Recipe
from vla.seeds import mix
from vla.train import TrainResult, train

LORA = ("tuning.mode=lora", "tuning.vision=frozen", "tuning.lora.dropout=0.1")
EVERYTHING_RANDOM = ("head.kind=diffusion", "perception=[{kind: shift}]", "backbone.dropout=0.1")


def bits(result: TrainResult) -> dict[str, bytes]:
    """The weights as they lie on disk."""
    folder = result.policy_dir
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def run(recipe: Recipe, folder: Path) -> TrainResult:
    return train(recipe, folder, progress=False)


@pytest.fixture(scope="module")
def unbroken(toy_recipe: Callable, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    """A finished run with cached features and LoRA, checkpoints at steps 16 and 20."""
    recipe = toy_recipe(*LORA, "train.save_every=8")
    folder = tmp_path_factory.mktemp("runs") / "unbroken"
    run(recipe, folder)
    return recipe, folder


def test_it_learns(toy_recipe: Callable, tmp_path: Path):
    longer = ("tuning.vision=frozen", "train.steps=40", "train.learning_rate=1e-2", "train.batch_size=32")
    result = run(toy_recipe(*longer), tmp_path / "run")
    assert result.losses[-1] < 0.8 * result.losses[0]
    assert result.steps == 40
    validation = [row["val_loss"] for row in rows(tmp_path / "run") if "val_loss" in row]
    assert validation[-1] < validation[0]


def test_a_killed_run_ends_with_the_bits_of_an_unbroken_one(toy_recipe: Callable, tmp_path: Path):
    recipe = toy_recipe(*EVERYTHING_RANDOM, "train.steps=40", "train.save_every=4", "train.log_every=1", "train.val_every=7")
    expected = run(recipe, tmp_path / "unbroken")
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    script = (f"import torch; torch.set_num_threads({torch.get_num_threads()})\n"
              "from vla.recipe import load_recipe; from vla.train import train\n"
              f"train(load_recipe({str(tmp_path / 'recipe.yaml')!r}), {str(tmp_path / 'killed')!r}, progress=False)")
    root = Path(__file__).parents[3]
    process = subprocess.Popen([sys.executable, "-c", script], cwd=root)
    log, lines = tmp_path / "killed" / "metrics.jsonl", random.randint(1, 25)
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") >= lines):
        time.sleep(random.uniform(0, 0.05))
    process.kill()
    assert process.wait() == -9, "it ended before it could be killed"
    result = run(recipe, tmp_path / "killed")
    assert bits(result) == bits(expected), f"killed after {lines} lines of log"
    steps = [row["step"] for row in rows(tmp_path / "killed") if "loss" in row]
    assert steps == list(range(1, 41))


@pytest.mark.parametrize("damage", ["truncated", "deleted"])
def test_a_damaged_checkpoint_costs_time_not_the_run(unbroken: tuple[Recipe, Path], tmp_path: Path, damage: str):
    recipe, whole = unbroken
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "policy")
    newest = sorted((folder / "checkpoints").iterdir())[-1] / "state.safetensors"
    if damage == "truncated":
        newest.write_bytes(newest.read_bytes()[:-8])
    else:
        newest.unlink()
    with pytest.warns(UserWarning, match="falling back"):
        result = run(recipe, folder)
    assert bits(result) == {name: (whole / "policy" / name).read_bytes() for name in bits(result)}


def test_no_intact_checkpoint_is_an_error_that_says_what_to_do(unbroken: tuple[Recipe, Path], tmp_path: Path):
    recipe, whole = unbroken
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "policy")
    for path in (folder / "checkpoints").rglob("state.safetensors"):
        path.write_bytes(b"")
    with pytest.warns(UserWarning), pytest.raises(UserError, match=r"none of its checkpoints is intact.*delete"):
        run(recipe, folder)


def test_a_finished_run_is_left_alone(unbroken: tuple[Recipe, Path]):
    recipe, folder = unbroken
    before = (folder / "policy" / "model.safetensors").stat().st_mtime_ns
    result = run(recipe, folder)
    assert (folder / "policy" / "model.safetensors").stat().st_mtime_ns == before
    assert (result.steps, len(result.losses)) == (20, len([row for row in rows(folder) if "loss" in row]))
    assert result.seconds > 0


def test_another_recipe_in_the_same_folder_is_refused_and_shown(toy_recipe: Callable, unbroken: tuple[Recipe, Path]):
    with pytest.raises(UserError, match=r"train\.learning_rate: 0\.0003 against 0\.1"):
        run(toy_recipe(*LORA, "train.learning_rate=0.1"), unbroken[1])


def test_other_data_under_the_same_run_are_refused(unbroken: tuple[Recipe, Path], demonstrations: Path, tmp_path: Path):
    recipe, whole = unbroken
    shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "policy")
    shutil.copytree(demonstrations, tmp_path / "data")
    (tmp_path / "data" / "meta" / "note.txt").write_text("changed")
    moved = recipe.model_copy(update={"data": recipe.data.model_copy(update={"root": tmp_path / "data"})})
    with pytest.raises(UserError, match="data changed since it began"):
        run(moved, tmp_path / "run")


def test_caching_features_changes_nothing_but_the_time(toy_recipe: Callable, tmp_path: Path):
    exact = ("tuning.vision=frozen", "train.steps=4", "train.feature_dtype=float32")
    cached, computed = (Policy.load(run(toy_recipe(*exact, f"train.cache_features={on}"), tmp_path / on).policy_dir)
                        for on in ("true", "false"))
    for (name, ours), theirs in zip(cached.named_parameters(), computed.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3, msg=name)


def test_accumulated_parts_add_up_to_the_whole_batch(toy_recipe: Callable, tmp_path: Path):
    logged = []
    for parts in (1, 3):
        recipe = toy_recipe("head.decoder.dropout=0", "train.steps=1", "train.batch_size=7", f"train.accumulate={parts}")
        run(recipe, tmp_path / str(parts))
        logged.append({name: rows(tmp_path / str(parts))[0][name] for name in ("loss", "grad_norm", "lr")})
    assert logged[1] == pytest.approx(logged[0], rel=1e-4)


def test_bfloat16_trains_and_saves_float32(toy_recipe: Callable, tmp_path: Path):
    recipe = toy_recipe("train.steps=2", "train.precision=bfloat16", "train.ema=null")
    policy = Policy.load(run(recipe, tmp_path / "run").policy_dir)
    assert {parameter.dtype for parameter in policy.parameters()} == {torch.float32}


def test_a_loss_that_is_no_number_stops_the_run(toy_recipe: Callable, tmp_path: Path):
    with pytest.raises(UserError, match=r"the loss is nan.*learning_rate"):
        run(toy_recipe("head.kind=diffusion", "train.learning_rate=1e30", "train.grad_clip=null"), tmp_path / "run")
    assert not list((tmp_path / "run").glob("policy"))


def test_the_trained_policy_drives_the_robot(unbroken: tuple[Recipe, Path]):
    policy, robot = Policy.load(unbroken[1] / "policy"), ToyRobot()
    robot.reset(0)
    for action in policy.infer(robot.observe()).actions:
        robot.act(action)
    assert robot.outcome().steps == policy.recipe.horizon


def test_seeds_mix_without_collisions():
    assert len({mix(seed, step) for seed in range(30) for step in range(100)} | {mix(seed) for seed in range(30)}) == 3030

"""`vla rl` from end to end on the toy robot: every algorithm makes a policy, a run resumes exactly, bad combinations are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from toy_robot import ToyRobot

from heads import HEADS
from robot_io import UserError
from vla.policy import Policy
from vla.rl.contexts import require_readouts
from vla.rl.data import open_data, transitions
from vla.rl.diagnostics import read_log
from vla.rl.loop import learn, too_few_backups
from vla.rl.recipe import RLRecipe, load_rl_recipe


def bits(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


@pytest.mark.parametrize(("preset", "head", "acts"), [
    ("co_rft", "regression", "regression"), ("cal_ql", "regression", "regression"), ("cal_ql", "diffusion", "best_of"),
    ("q_chunking", "diffusion", "best_of"), ("q_distilled", "diffusion", "one_step"), ("edits", "diffusion", "edited"), ("iql", "tokens", "tokens"),
    ("imitate", "diffusion", "diffusion")])
def test_every_algorithm_makes_a_policy_that_drives(preset: str, head: str, acts: str, rl_recipe: Callable, tmp_path: Path):
    recipe = rl_recipe(preset, head)
    result = learn(recipe, tmp_path / "run", progress=False)
    policy, robot = Policy.load(result.policy_dir), ToyRobot()
    robot.reset(0)
    assert policy.recipe.head.kind == acts
    assert policy.infer(robot.observe()).actions.shape == (4, 2)
    before, after = (bits(folder)["model.safetensors"] for folder in (recipe.init, result.policy_dir))
    assert before != after
    log = read_log(tmp_path / "run")
    assert {"val_bias", "val_rank", "val_calibration", "val_over"} <= set().union(*log)


@pytest.mark.parametrize(("preset", "head", "more"), [
    ("co_rft", "regression", "tune=all"), ("q_distilled", "diffusion", "tune=head"), ("iql", "diffusion", "tune=head")])
def test_a_run_that_was_killed_ends_with_the_same_bits(preset: str, head: str, more: str, rl_recipe: Callable, tmp_path: Path):
    recipe, whole = rl_recipe(preset, head, more), tmp_path / "whole"
    learn(recipe, whole, progress=False)
    shutil.copytree(whole, tmp_path / "killed")
    for lost in ("policy", "critic", "checkpoints/step-000008"):
        shutil.rmtree(tmp_path / "killed" / lost)
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as log:
        log.write('{"step": 8, "lo')
    learn(recipe, tmp_path / "killed", progress=False)
    for part in ("policy", "critic"):
        assert bits(tmp_path / "killed" / part) == bits(whole / part)

    def measured(run: Path) -> list[dict]:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in read_log(run)]

    assert measured(tmp_path / "killed") == measured(whole)


def test_too_few_backups_for_the_longest_episode_are_warned_of(rl_recipe: Callable):
    recipe = rl_recipe("q_chunking", "diffusion", "optim.steps=10", "optim.refresh=10", "optim.tau=1")
    policy = Policy.load(recipe.init)
    data = transitions(policy, open_data(policy, recipe), recipe)
    assert "1 backups" in too_few_backups(data, recipe)[0]
    assert too_few_backups(data, rl_recipe("q_chunking", "diffusion", "optim.steps=100", "optim.refresh=10", "optim.tau=0.1")) == []
    assert "τ = 0.001" in too_few_backups(data, rl_recipe("q_chunking", "diffusion", "optim.steps=100", "optim.refresh=10", "optim.tau=0.001"))[0]


def test_another_recipe_or_policy_under_the_same_run_is_refused(rl_recipe: Callable, imitated: Callable, tmp_path: Path):
    run = tmp_path / "run"
    learn(rl_recipe("q_chunking", "diffusion"), run, progress=False)
    with pytest.raises(UserError, match=r"optim\.tau: 0\.02 against 0\.5"):
        learn(rl_recipe("q_chunking", "diffusion", "optim.tau=0.5"), run, progress=False)
    shutil.rmtree(run / "policy")
    other = rl_recipe("q_chunking", "diffusion").model_copy(update={"init": learn(
        rl_recipe("imitate", "diffusion"), tmp_path / "other", progress=False).policy_dir})
    with pytest.raises(UserError, match="the policy it began with changed"):
        learn(other, run, progress=False)


@pytest.mark.parametrize(("preset", "head", "override", "words"), [
    ("co_rft", "diffusion", "tune=head", "draws its chunks; CO-RFT follows the gradient"),
    ("q_chunking", "regression", "tune=head", "always proposes the same chunk"),
    ("q_chunking", "tokens", "tune=head", r"open=\['head.temperature=0.7'\]"),
    ("q_distilled", "tokens", "open=['head.temperature=1.0']", "cannot be told which noise"),
    ("q_chunking", "diffusion", "tune=all", "set tune=head"),
    ("co_rft", "regression", "optim.critic_learning_rate=1e30", "not a number any more")])
def test_what_cannot_work_is_refused(preset: str, head: str, override: str, words: str, rl_recipe: Callable, tmp_path: Path):
    with pytest.raises(UserError, match=words):
        learn(rl_recipe(preset, head, override), tmp_path / "run", progress=False)


@pytest.mark.parametrize(("head", "needs"), [
    ({"kind": "pi0"}, "layers"), ({"kind": "vocabulary"}, "continuation"), ({"kind": "flow", "expert": {"kind": "joint"}}, "layers"),
    ({"kind": "best_of", "head": {"kind": "flow", "expert": {"kind": "joint"}}}, "layers")])
def test_heads_that_read_more_than_is_kept_of_a_frame_are_refused(head: dict, needs: str):
    with pytest.raises(UserError, match=f"it reads the backbone's {needs}; expected a head that reads readouts or hidden states"):
        require_readouts(HEADS.configure(head))
    for fine in ({"kind": "flow"}, {"kind": "regression"}, {"kind": "best_of", "head": {"kind": "diffusion"}}):
        require_readouts(HEADS.configure(fine))


def test_a_recipe_is_written_read_back_and_names_what_it_does_not_know(rl_recipe: Callable, tmp_path: Path):
    recipe = rl_recipe("q_chunking", "diffusion")
    (tmp_path / "rl.yaml").write_text(recipe.to_yaml())
    assert load_rl_recipe(tmp_path / "rl.yaml") == recipe == RLRecipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert recipe.hash == load_rl_recipe(tmp_path / "rl.yaml", ["optim.save_every=7"]).hash != load_rl_recipe(
        tmp_path / "rl.yaml", ["optim.tau=0.1"]).hash
    with pytest.raises(UserError, match="gama"):
        load_rl_recipe("iql", ["data.rewards.gama=0.9"])
    with pytest.raises(UserError, match=r"no preset and no file is called 'co-rft'.*co_rft"):
        load_rl_recipe("co-rft")

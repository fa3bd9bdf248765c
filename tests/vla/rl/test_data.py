"""Transitions: rewards from labels or a column, or a refusal that says what to do; who did what is remembered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from robot_io import UserError
from robot_io.dataset import Dataset
from vla.policy import Policy
from vla.rl.data import Transitions, open_data, rewards_of, transitions
from vla.rl.recipe import Rewards, RLRecipe


def opened(recipe: RLRecipe) -> Transitions:
    policy = Policy.load(recipe.init)
    return transitions(policy, open_data(policy, recipe), recipe)


def without(root: Path, folder: Path, *features: str) -> Path:
    """A copy of a data set whose description lacks some columns."""
    shutil.copytree(root, folder)
    info = json.loads((folder / "meta/info.json").read_text())
    for feature in features:
        del info["features"][feature]
    (folder / "meta/info.json").write_text(json.dumps(info))
    return folder


def test_success_is_rewarded_once_where_it_happened(rollouts: Path):
    data = Dataset(rollouts)
    reward = rewards_of(data, Rewards())
    assert set(np.unique(reward)) == {0.0, 1.0}, "some of these random walks should succeed, some not"
    for episode in data.episodes:
        own = reward[episode.start : episode.stop]
        assert own.sum() == episode.success and own[-1] == episode.success


def test_both_data_sets_are_laid_out_in_a_row_and_told_apart(rl_recipe: Callable, demonstrations: Path, rollouts: Path):
    recipe = rl_recipe("q_chunking", "diffusion", "data.validation=0.25", "data.rewards.gamma=0.9")
    data, good, bad = opened(recipe), Dataset(demonstrations), Dataset(rollouts)
    assert len(data) == len(good) + len(bad) and data.sources == ("data", "drunk")
    assert (data.source == 0).sum() == len(good)
    assert data.success[data.source == 0].all() and not data.success[data.source == 1].all()
    assert data.episode.max() + 1 == len(good.episodes) + len(bad.episodes)
    assert not set(data.episode[data.training].tolist()) & set(data.episode[data.validation].tolist())
    assert len(torch.unique(data.source[data.validation])) == 2, "of each data set something is held out"
    reward = np.concatenate([rewards_of(good, Rewards()), rewards_of(bad, Rewards())])
    last = data.discount[:, 0] == 0
    torch.testing.assert_close(data.mc[last], torch.from_numpy(reward)[last])
    torch.testing.assert_close(data.mc[:-1][~last[:-1]], 0.9 * data.mc[1:][~last[:-1]] + torch.from_numpy(reward)[:-1][~last[:-1]])
    assert (data.episode[data.next] == data.episode[:, None])[data.discount > 0].all(), "no bootstrap from another episode"
    assert data.summary()[0].startswith(f"data: {len(good.episodes)} episodes, {len(good.episodes)} of them successes")


def test_a_chunk_may_outlast_its_episode_or_not(rl_recipe: Callable):
    absorbed = opened(rl_recipe("q_chunking", "diffusion"))
    cut = opened(rl_recipe("q_chunking", "diffusion", "data.absorbing=false"))
    assert absorbed.valid.all() and not cut.valid.all()
    torch.testing.assert_close(cut.valid, cut.inside)
    past = ~cut.valid
    assert (absorbed.discount[past] == 0).all()
    torch.testing.assert_close(absorbed.earned[past], absorbed.mc[:, None].expand(past.shape)[past])


def test_frames_that_end_in_success_are_drawn_more_often(rl_recipe: Callable):
    data = opened(rl_recipe("q_chunking", "diffusion", "data.rewards.success_repeat=7"))
    drawn = torch.cat([data.draw(512, 0, step) for step in range(40)])
    counts = torch.bincount(drawn, minlength=len(data)).float()
    ends = torch.zeros(len(data), dtype=torch.bool)
    ends[data.training] = (data.discount[data.training, 0] == 0) & data.success[data.training]
    others = torch.zeros_like(ends)
    others[data.training] = ~ends[data.training]
    assert counts[ends].mean() / counts[others].mean() == pytest.approx(7, rel=0.1)
    assert counts[data.validation].sum() == 0
    assert torch.equal(data.draw(64, 3, 5), data.draw(64, 3, 5)) and not torch.equal(data.draw(64, 3, 5), data.draw(64, 3, 6))


def test_data_without_rewards_are_refused_with_advice(rl_recipe: Callable, demonstrations: Path, tmp_path: Path):
    bare = without(demonstrations, tmp_path / "bare", "next.success", "next.reward")
    recipe = rl_recipe("q_chunking", "diffusion")
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"roots": (bare,)})})
    with pytest.raises(UserError, match=r"no column 'next\.reward'; expected success labels.*every_episode_succeeds"):
        opened(recipe)
    trusting = recipe.data.model_copy(update={"rewards": Rewards(source="every_episode_succeeds")})
    assert opened(recipe.model_copy(update={"data": trusting})).success.all()


def test_a_column_of_rewards_will_do(demonstrations: Path, tmp_path: Path):
    unlabelled = Dataset(without(demonstrations, tmp_path / "unlabelled", "next.success"))
    np.testing.assert_array_equal(rewards_of(unlabelled, Rewards()), Dataset(demonstrations).column("next.reward"))
    with pytest.raises(UserError, match="not one finite number per frame"):
        rewards_of(unlabelled, Rewards(source="column", column="action"))


def test_failures_alone_are_refused(rl_recipe: Callable, rollouts: Path, tmp_path: Path):
    from vla.collect import collect

    hopeless = tmp_path / "hopeless"
    collect({"kind": "toy_robot:ToyRobot", "limit": 2}, hopeless, episodes=3, policy="toy_robot:Drunk", progress=False)
    recipe = rl_recipe("q_chunking", "diffusion")
    with pytest.raises(UserError, match="no frame of any data set has a positive reward"):
        opened(recipe.model_copy(update={"data": recipe.data.model_copy(update={"roots": (hopeless,)})}))


def test_no_data_and_a_chunk_that_is_too_long_are_refused(rl_recipe: Callable):
    recipe = rl_recipe("q_chunking", "diffusion", "chunk=5")
    with pytest.raises(UserError, match=r"chunk: 5; expected at most the policy's horizon, 4"):
        opened(recipe)
    with pytest.raises(UserError, match="no data set is named"):
        opened(recipe.model_copy(update={"data": recipe.data.model_copy(update={"roots": ()})}))

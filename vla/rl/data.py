"""Transitions from recorded episodes: which chunk was done where, what it earned, and who did it.

Any LeRobotDataset will do, of demonstrations or of rollouts, good or bad, several at once. A reward comes from the episodes' success
labels (1 for the action that ended in success, 0 for all others) or from a column of rewards. Data with neither are refused. Every
frame remembers which data set it is from and whether its episode succeeded, so that the diagnostics can tell them apart.

Shapes: N frames of all data sets in a row, B samples, T = chunk, A action dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from robot_io import UserError
from robot_io.dataset import Dataset
from robot_io.dataset.layout import REWARD, SUCCESS
from robot_io.specs import require_compatible
from vla.data import Demonstrations, split_episodes
from vla.policy import Policy
from vla.recipe import Recipe
from vla.rl.recipe import Rewards, RLRecipe
from vla.rl.returns import Returns, monte_carlo, prefix_returns


@dataclass(frozen=True)
class Transitions:
    """Every frame with the chunk that was done from it. Actions are normalised.

    Attributes:
        actions, inside: the chunk of the policy's horizon, and which of its steps lie inside the episode.
        earned, discount, next: see `vla.rl.returns`.
        valid: which prefixes are learnt: those inside the episode, or all of them if its end is `absorbing`.
        mc: the Monte-Carlo return.
        success: whether the frame's episode succeeded; where rewards are a column, whether it earned anything.
        source: which data set, an index into `sources`.
        episode: number of the frame's episode, counted through all data sets.
        training, validation: frames, by held-out episodes.
        weight: how often each training frame is drawn, against others.
    """

    actions: Float[Tensor, "n h a"]
    inside: Bool[Tensor, "n h"]
    earned: Float[Tensor, "n t"]
    discount: Float[Tensor, "n t"]
    next: Int[Tensor, "n t"]
    valid: Bool[Tensor, "n t"]
    mc: Float[Tensor, " n"]
    success: Bool[Tensor, " n"]
    source: Int[Tensor, " n"]
    episode: Int[Tensor, " n"]
    training: Int[Tensor, " k"]
    validation: Int[Tensor, " v"]
    weight: Float[np.ndarray, " k"]
    sources: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.mc)

    @property
    def chunk(self) -> int:
        """T, the longest prefix that is valued."""
        return self.valid.shape[1]

    def draw(self, size: int, *seed: int) -> Int[Tensor, " b"]:
        """Training frames, with replacement: a pure function of the seed."""
        bounds = np.cumsum(self.weight)
        drawn = np.searchsorted(bounds, np.random.default_rng(seed).random(size) * bounds[-1], side="right")
        return self.training[torch.from_numpy(np.minimum(drawn, len(bounds) - 1))]

    def summary(self) -> list[str]:
        """A line for each data set."""
        lines = []
        for number, name in enumerate(self.sources):
            own = self.source == number
            episodes = torch.unique(self.episode[own])
            won = torch.unique(self.episode[own & self.success])
            lines.append(f"{name}: {len(episodes)} episodes, {len(won)} of them successes, {int(own.sum())} frames")
        return lines


def open_data(policy: Policy, recipe: RLRecipe) -> list[Demonstrations]:
    """Open and check every data set, columns only.

    Raises:
        UserError: none is named, one was recorded by another robot, or is damaged.
    """
    if not recipe.data.roots:
        raise UserError("data", "no data set is named", "at least one LeRobotDataset", "name it with --data, several times for several")
    opened = []
    for root in recipe.data.roots:
        data = policy.recipe.data.model_copy(update={
            "root": Path(root), "successes_only": False, "validation": recipe.data.validation, "cache": recipe.data.cache,
            **({"action_mode": None} if Dataset(root).spec is not None else {})})
        demonstrations = Demonstrations(policy.recipe.model_copy(update={"data": data}))
        require_compatible(policy.spec, demonstrations.spec, thing=f"policy '{recipe.init}' and data set '{root}'")
        rewards_of(demonstrations.dataset, recipe.data.rewards)
        opened.append(demonstrations)
    return opened


def rewards_of(dataset: Dataset, rewards: Rewards) -> Float[np.ndarray, " n"]:
    """The reward of the action of each frame.

    Raises:
        UserError: the data set has neither success labels nor rewards; a reward is not a finite number.
    """
    features, source = dataset.info["features"], rewards.source
    if source == "auto":
        source = "success" if SUCCESS in features else "column"
    if source == "every_episode_succeeds" or (source == "success" and SUCCESS in features):
        earned = np.zeros(len(dataset), np.float32)
        for episode in dataset.episodes:
            earned[episode.stop - 1] = float(source == "every_episode_succeeds" or bool(episode.success))
        return earned
    wanted = SUCCESS if source == "success" else rewards.column
    if wanted not in features:
        raise UserError(
            f"data set {dataset.root}", f"has no column '{wanted}'", f"success labels ('{SUCCESS}') or rewards ('{REWARD}')",
            "record with success labels (`vla collect`, Recorder.save_episode), name your own with data.rewards.column=…, or, if every "
            "episode in it succeeds, say so with data.rewards.source=every_episode_succeeds")
    column = dataset.column(wanted).astype(np.float32).reshape(len(dataset), -1)
    if column.shape[1] != 1 or not np.isfinite(column).all():
        raise UserError(f"column '{wanted}' of {dataset.root}", "is not one finite number per frame", "a reward per frame",
                        "name another with data.rewards.column, or repair it")
    return column[:, 0]


def transitions(policy: Policy, opened: list[Demonstrations], recipe: RLRecipe) -> Transitions:
    """All data sets in a row.

    Raises:
        UserError: nothing in them was ever rewarded.
    """
    horizon, offset, parts = policy.recipe.horizon, 0, []
    chunk = recipe.chunk or horizon
    if chunk > horizon:
        raise UserError("chunk", f"{chunk}", f"at most the policy's horizon, {horizon}", "lower it, or train a policy with a longer horizon")
    episodes = 0
    for number, demonstrations in enumerate(opened):
        part = _one(demonstrations, recipe, chunk, offset, episodes, policy.recipe)
        part["source"] = np.full(len(demonstrations.actions), number)
        parts.append(part)
        offset, episodes = offset + len(demonstrations.actions), episodes + len(demonstrations.dataset.episodes)
    joined = {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}
    if not bool((joined.pop("reward") > 0).any()):
        raise UserError("data", "no frame of any data set has a positive reward: nothing says what is good", "some successes",
                        "add demonstrations to them (--data several times), or check the labels")
    joined["actions"] = policy.normalizer.action.normalize(joined["actions"])
    training = joined["training"]
    weight = np.where(joined.pop("repeated")[training].numpy(), recipe.data.rewards.success_repeat, 1).astype(np.float64)
    return Transitions(**joined, weight=weight, sources=tuple(_names(recipe.data.roots)))


def _one(demonstrations: Demonstrations, recipe: RLRecipe, chunk: int, offset: int, first_episode: int,
         of_policy: Recipe) -> dict[str, np.ndarray]:
    """The columns of one data set whose frames begin at `offset`."""
    rewards, gamma = recipe.data.rewards, recipe.data.rewards.gamma
    reward, stop = rewards_of(demonstrations.dataset, rewards), demonstrations.end
    longest = max(chunk, recipe.backup or 1)
    returns: Returns = prefix_returns(reward, stop, longest, gamma).cut(chunk, recipe.backup)
    frames = np.arange(len(reward))
    actions, inside = demonstrations.windows(frames)
    kept = demonstrations.dataset.episodes
    held_out, rest = split_episodes(kept, recipe.data.validation)
    success, episode = np.zeros(len(reward), bool), np.zeros(len(reward), np.int64)
    for number, each in enumerate(kept):
        success[each.start : each.stop] = bool((reward[each.start : each.stop] > 0).any())
        episode[each.start : each.stop] = first_episode + number
    spans = {"training": rest, "validation": held_out}
    return {
        "actions": actions, "inside": inside, "earned": returns.earned, "discount": returns.discount, "next": returns.next + offset,
        "valid": returns.valid | recipe.data.absorbing, "mc": monte_carlo(reward, stop, gamma), "success": success,
        "episode": episode, "reward": reward,
        "repeated": (reward > 0) & (frames == stop - 1),
        **{name: offset + np.concatenate([np.arange(e.start, e.stop) for e in chosen] or [np.empty(0, np.int64)])
           for name, chosen in spans.items()},
    }


def _names(roots: tuple[Path, ...]) -> list[str]:
    """Short names that tell the data sets apart."""
    short = [Path(root).name for root in roots]
    return short if len(set(short)) == len(short) else [str(root) for root in roots]

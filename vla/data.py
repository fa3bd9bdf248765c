"""From data sets on disk to training batches: chunk windows, held-out episodes, and an order without state.

A training sample is a frame t and the `horizon` actions from t on. Steps past the end of the episode repeat its last action
and are marked invalid. Which frames make up the batch of step i is a pure function of (seed, i): a run that was killed goes
on with exactly the batches that the unbroken run would have seen. Of several data sets (`data.mixture`) each is drawn from by its weight
and passed through on its own.

Shapes: N frames of all data sets one after the other, B samples, T = horizon, A action dimensions, S state dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from perception.percept import Batch, Percept
from vla.cache import cache_root, key_of
from vla.frames import Frames, Track
from vla.normalize import Normalizer
from vla.recipe import Recipe
from vla.sources import open_first, open_mixed, split_episodes
from vla.streaming import BLOCKS, block_shuffle

__all__ = ["Demonstrations", "Samples", "split_episodes"]

CYCLE = 1000
"""Draws within which every data set of a mixture gets its exact share."""


@dataclass(frozen=True)
class Samples:
    """A training batch. Actions are in the robot's own units; `percept` is set where perception was cached."""

    batch: Batch
    actions: Float[Tensor, "b t a"]
    valid: Bool[Tensor, "b t"]
    percept: Percept | None = None

    def split(self, parts: int) -> list[Samples]:
        """Consecutive parts of nearly equal size, none of them empty."""
        bounds = np.linspace(0, len(self.batch), min(parts, len(self.batch)) + 1).astype(int)
        return [self._slice(slice(a, b)) for a, b in pairwise(bounds)]

    def _slice(self, part: slice) -> Samples:
        return Samples(rows(self.batch, part), self.actions[part], self.valid[part],
                       None if self.percept is None else rows(self.percept, part))


def rows(parcel: Batch | Percept, part: slice) -> Batch | Percept:
    """The same parcel with fewer samples: every tensor, list and table of tensors sliced."""
    def cut(value: object) -> object:
        if isinstance(value, dict):
            return {name: cut(inner) for name, inner in value.items()}
        return value[part] if isinstance(value, Tensor | list) else value

    return replace(parcel, **{name: cut(value) for name, value in vars(parcel).items()})


class Demonstrations:
    """What imitation training reads: columns in memory, pictures on demand.

    Attributes:
        sources: the data sets; the first one decides what is driven.
        spec: the robot that recorded it.
        actions, state: `float32 [N, A]` and `[N, S]`.
        training, validation: the frames a batch may be drawn from, by held-out episodes.
        digest: of the data sets' content.
    """

    def __init__(self, recipe: Recipe) -> None:
        """Opens and checks the data sets, columns only.

        Raises:
            UserError: whatever makes these data unfit for this recipe, before anything is decoded or trained.
        """
        data = recipe.data
        self.recipe = recipe
        first = open_first(data)
        self.sources = [first, *(open_mixed(part, place, first, data) for place, part in enumerate(data.mixture))]
        self.dataset, self.spec = first.dataset, first.spec
        self.cameras = tuple(view.name for view in first.views)
        self.starts = np.cumsum([0, *map(len, self.sources)])[:-1]
        self.actions = np.concatenate([source.actions for source in self.sources])
        self.state = np.concatenate([source.state for source in self.sources])
        self.end = np.concatenate([source.end + start for source, start in zip(self.sources, self.starts, strict=True)])
        self.training, self.validation = (
            np.concatenate([getattr(source, half) + start for source, start in zip(self.sources, self.starts, strict=True)])
            for half in ("training", "validation"))
        weights = np.array([source.weight for source in self.sources])
        self.shares = weights / weights.sum()

    @cached_property
    def digest(self) -> str:
        digests = [source.digest for source in self.sources]
        return digests[0] if len(digests) == 1 else key_of(mixture=digests)

    def normalizer(self) -> Normalizer:
        """Statistics of the training frames."""
        modes = self.recipe.normalization
        return Normalizer.measure(self.spec, self.actions[self.training], self.state[self.training],
                                  action_mode=modes.action, state_mode=modes.state)

    def open_frames(self, track: Track, *, depth: bool = False) -> Frames:
        """Decode the pictures, and the depth if it is wanted, or find them decoded."""
        data, cache = self.recipe.data, cache_root(self.recipe.data.cache)
        return Frames([source.shelf(int(start), data, cache, track, depth=depth, share=float(share))
                       for source, start, share in zip(self.sources, self.starts, self.shares, strict=True)], self.cameras)

    def order(self, step: int) -> Int[np.ndarray, " b"]:
        """The frames of training step `step`: endless reshuffled passes over the training frames, cut into batches."""
        size = self.recipe.train.batch_size
        owner, position = draws(self.shares, step * size + np.arange(size), self.recipe.train.seed)
        chosen = np.empty(size, np.int64)
        for number in np.unique(owner):
            mine = owner == number
            chosen[mine] = self.starts[number] + self._visit(int(number), position[mine])
        return chosen

    @property
    def foresight(self) -> int:
        """How many steps ahead a stream should decode: half a block, so that it never works on more than the next one."""
        if self.recipe.data.store != "stream":
            return 0
        blocks = [source.stream_capacity(self.recipe.data, float(share)) // BLOCKS
                  for source, share in zip(self.sources, self.shares, strict=True)]
        return max(1, sum(blocks) // 2 // self.recipe.train.batch_size)

    def _visit(self, number: int, position: Int[np.ndarray, " b"]) -> Int[np.ndarray, " b"]:
        """The frames of data set `number` at these places of its endless passes."""
        source, seed, data = self.sources[number], self.recipe.train.seed, self.recipe.data
        lap, place = np.divmod(position, len(source.training))
        chosen = np.empty(len(position), np.int64)
        for one in np.unique(lap):
            if data.store == "stream":
                block = source.stream_capacity(data, float(self.shares[number])) // BLOCKS
                shuffled = block_shuffle(source.lengths, block, seed, int(one))
            else:
                shuffled = _shuffle(len(source.training), seed, int(one))
            chosen[lap == one] = source.training[shuffled[place[lap == one]]]
        return chosen

    def windows(self, index: Int[np.ndarray, " b"]) -> tuple[Float[np.ndarray, "b t a"], Bool[np.ndarray, "b t"]]:
        """The action chunks that begin at frames `index`, and which of their steps lie inside the episode."""
        rows = index[:, None] + np.arange(self.recipe.horizon)
        last = self.end[index][:, None] - 1
        return self.actions[np.minimum(rows, last)], rows <= last

    def columns(self, index: Int[np.ndarray, " b"], device: torch.device | str) -> Samples:
        """The samples at frames `index`, without pictures."""
        actions, valid = self.windows(index)
        batch = Batch(rgb={}, state=torch.from_numpy(self.state[index]).to(device), instructions=self.instructions(index))
        return Samples(batch, torch.from_numpy(actions).to(device), torch.from_numpy(valid).to(device))

    def instructions(self, index: Int[np.ndarray, " b"]) -> list[str]:
        owner = np.searchsorted(self.starts, index, "right") - 1
        words = np.empty(len(index), object)
        for number in np.unique(owner):
            words[owner == number] = self.sources[number].instructions(index[owner == number] - self.starts[number])
        return words.tolist()


def draws(shares: Float[np.ndarray, " k"], number: Int[np.ndarray, " b"], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """For draws `number` of an endless sequence: from which data set, and how many were drawn from it before. Both `[B]`."""
    if len(shares) == 1:
        return np.zeros(len(number), np.int64), number
    counts = np.diff(np.round(np.cumsum([0, *shares]) * CYCLE).astype(np.int64))
    cycle, place = np.divmod(number, CYCLE)
    owner, before = np.empty(len(number), np.int64), np.empty(len(number), np.int64)
    for one in np.unique(cycle):
        mine = cycle == one
        sequence = np.random.default_rng([seed, int(one), len(shares)]).permutation(np.repeat(np.arange(len(shares)), counts))
        earlier = (sequence[:, None] == np.arange(len(shares))).cumsum(0)[np.arange(CYCLE), sequence] - 1
        owner[mine] = sequence[place[mine]]
        before[mine] = one * counts[owner[mine]] + earlier[place[mine]]
    return owner, before


@lru_cache(maxsize=4)
def _shuffle(count: int, seed: int, lap: int) -> np.ndarray:
    return np.random.default_rng([seed, lap]).permutation(count)

"""From a data set on disk to training batches: chunk windows, held-out episodes, and an order without state.

A training sample is a frame t and the `horizon` actions from t on. Steps past the end of the episode repeat its last action
and are marked invalid. Which frames make up the batch of step i is a pure function of (seed, i): a run that was killed goes
on with exactly the batches that the unbroken run would have seen.

Shapes: N frames of the data set, B samples, T = horizon, A action dimensions, S state dimensions.
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
from robot_io import RobotSpec, UserError
from robot_io.dataset import Dataset, Episode, infer_spec
from vla.cache import cache_root, files_digest
from vla.frames import Frames, Track
from vla.normalize import Normalizer
from vla.recipe import Data, Recipe


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

    def _slice(self, rows: slice) -> Samples:
        return Samples(_rows(self.batch, rows), self.actions[rows], self.valid[rows],
                       None if self.percept is None else _rows(self.percept, rows))


def _rows(parcel: Batch | Percept, rows: slice) -> Batch | Percept:
    """The same parcel with fewer samples: every tensor, list and table of tensors sliced."""
    def cut(value: object) -> object:
        if isinstance(value, dict):
            return {name: cut(inner) for name, inner in value.items()}
        return value[rows] if isinstance(value, Tensor | list) else value

    return replace(parcel, **{name: cut(value) for name, value in vars(parcel).items()})


class Demonstrations:
    """What imitation training reads: columns in memory, pictures on demand.

    Attributes:
        spec: the robot that recorded the data.
        actions, state: `float32 [N, A]` and `[N, S]`.
        training, validation: the frames a batch may be drawn from, by held-out episodes.
        digest: of the data set's content.
    """

    def __init__(self, recipe: Recipe) -> None:
        """Opens and checks the data set, columns only.

        Raises:
            UserError: whatever makes these data unfit for this recipe, before anything is decoded or trained.
        """
        data = recipe.data
        self.recipe = recipe
        self.dataset = Dataset(data.root)
        self.spec = _spec(self.dataset, data)
        self.cameras = data.cameras or self.spec.observation.camera_names
        self.dataset.check(self.spec.with_cameras(self.cameras), self.cameras)
        frames = len(self.dataset)
        self.actions = self.dataset.column("action").reshape(frames, -1).astype(np.float32)
        self.state = (self.dataset.column("observation.state").reshape(frames, -1).astype(np.float32)
                      if self.spec.observation.state else np.empty((frames, 0), np.float32))
        self.task = self.dataset.column("task_index")
        self.end = np.empty(frames, np.int64)
        for episode in self.dataset.episodes:
            self.end[episode.start : episode.stop] = episode.stop
        kept = [episode for episode in self.dataset.episodes if episode.success is not False or not data.successes_only]
        held_out, rest = split_episodes(kept, data.validation)
        self.training, self.validation = _frames_of(rest), _frames_of(held_out)
        if not len(self.training):
            raise UserError(f"data set {data.root}", f"{len(self.dataset.episodes)} episodes, none left to train on",
                            "at least one successful demonstration", "record some, or set data.successes_only=false")

    @cached_property
    def digest(self) -> str:
        return files_digest(self.dataset.root)

    def normalizer(self) -> Normalizer:
        """Statistics of the training frames."""
        modes = self.recipe.normalization
        return Normalizer.measure(self.spec, self.actions[self.training], self.state[self.training],
                                  action_mode=modes.action, state_mode=modes.state)

    def open_frames(self, track: Track, *, depth: bool = False) -> Frames:
        """Decode the pictures, and the depth if it is wanted, or find them decoded."""
        return Frames(self.dataset, self.digest, self.cameras, depth=depth, cache=cache_root(self.recipe.data.cache), track=track)

    def order(self, step: int) -> Int[np.ndarray, " b"]:
        """The frames of training step `step`: an endless reshuffled pass over the training frames, cut into batches."""
        train, count = self.recipe.train, len(self.training)
        position = step * train.batch_size + np.arange(train.batch_size)
        lap = position // count
        chosen = np.empty(train.batch_size, np.int64)
        for number in np.unique(lap):
            inside = lap == number
            chosen[inside] = _shuffle(count, train.seed, int(number))[position[inside] % count]
        return self.training[chosen]

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
        return [self.dataset.tasks[task] for task in self.task[index]]


def split_episodes(episodes: list[Episode], share: float) -> tuple[list[Episode], list[Episode]]:
    """(held out, rest), both in order. The same for every training seed, so that seeds compare on the same episodes."""
    count = min(max(1, round(share * len(episodes))), len(episodes) - 1) if share > 0 and len(episodes) > 1 else 0
    chosen = set(np.random.default_rng(0).permutation(len(episodes))[:count].tolist())
    return ([e for i, e in enumerate(episodes) if i in chosen], [e for i, e in enumerate(episodes) if i not in chosen])


def _frames_of(episodes: list[Episode]) -> Int[np.ndarray, " n"]:
    return np.concatenate([np.arange(e.start, e.stop) for e in episodes]) if episodes else np.empty(0, np.int64)


@lru_cache(maxsize=2)
def _shuffle(count: int, seed: int, lap: int) -> np.ndarray:
    return np.random.default_rng([seed, lap]).permutation(count)


def _spec(dataset: Dataset, data: Data) -> RobotSpec:
    """The data set's own specification, or what can be inferred of it once the meaning of its actions is told."""
    if dataset.spec is not None:
        if data.action_mode is not None:
            raise UserError("data.action_mode", f"'{data.action_mode}', but data set {data.root} says itself what its "
                            "actions mean", "null", "remove it")
        return dataset.spec
    if data.action_mode is None:
        raise UserError(f"data set {data.root}", "does not say whether its actions are absolute, delta or relative",
                        "data.action_mode to say it", "set data.action_mode=absolute, or what its documentation says")
    return infer_spec(dataset, data.action_mode)

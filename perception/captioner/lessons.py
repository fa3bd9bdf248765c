"""Pictures with captions to learn from: rendered tables (`Tabletop`) and households (`Household`).

    images float [B, 3, 128, 128] in [0, 1], B captions

A lesson is a function of its number alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from perception.captioning.places import in_the_picture
from perception.captioning.template import NOTHING
from perception.grounder.augment import relight, retexture
from perception.grounder.scenes import VIEWS, open_arrays
from robot_io.household.catalogue import FURNITURE, ROOMS, THINGS, TRAINING
from robot_io.household.describe import describe
from robot_io.household.expert import Expert
from robot_io.household.render import render
from robot_io.household.skills import all_skills
from robot_io.household.world import World

SEEN = 25
"""Pixels of 128×128 that a thing must show to be told of."""
WANDER = 0.3
"""Chance that a random possible skill is carried out in place of the expert's, so that captioners see more than its states."""

Lesson = tuple[Tensor, list[str]]


def caption(ids: np.ndarray, names: np.ndarray) -> str:
    """What a perfect captioner says of a rendered table: every thing and its field of the picture, from left to right.

    Args:
        ids: `uint8 [128, 128]`, names `[T]`: see `perception.grounder.scenes`.
    """
    told = []
    for number, name in enumerate(names, 1):
        mask = ids == number
        if name and mask.sum() >= SEEN:
            told.append((np.nonzero(mask)[1].mean(), f"a {name} {in_the_picture(mask)}"))
    return "; ".join(text for _, text in sorted(told)) or NOTHING


class Tabletop:
    """Both views of scenes that `perception.grounder.scenes` rendered."""

    def __init__(self, folders: list[Path]) -> None:
        self.arrays = [open_arrays(folder) for folder in folders]
        self.index = [(f, i, v) for f, arrays in enumerate(self.arrays) for i in range(len(arrays["start"])) for v in range(len(VIEWS))]

    def texts(self) -> Iterator[str]:
        """Captions with every word that can occur."""
        for arrays in self.arrays:
            for name in np.unique(arrays["names"]):
                yield f"a {name}"
        yield f"{NOTHING}; in the middle; on the left right; at the upper lower"

    def draw(self, number: int, size: int) -> Lesson:
        """Pictures in other surroundings and light, as the grounder learns from."""
        images, captions, ids = self.take(np.random.default_rng((2, number)).choice(len(self.index), size, replace=False))
        generator = torch.Generator().manual_seed(number)
        return relight(retexture(images, ids == 0, generator), generator), captions

    def exam(self, size: int) -> Lesson:
        images, captions, _ = self.take(np.arange(0, len(self.index), max(1, len(self.index) // size))[:size])
        return images, captions

    def take(self, chosen: np.ndarray) -> tuple[Tensor, list[str], Tensor]:
        picked = [(self.arrays[f], i, v) for f, i, v in (self.index[c] for c in chosen)]
        images = torch.from_numpy(np.stack([arrays["images"][i, v] for arrays, i, v in picked])).permute(0, 3, 1, 2).float() / 255
        ids = np.stack([arrays["ids"][i, v] for arrays, i, v in picked])
        return images, [caption(one, arrays["names"][i]) for one, (arrays, i, _) in zip(ids, picked, strict=True)], torch.from_numpy(ids)


class Household:
    """Rooms on the way of an expert that sometimes wanders. `draw` never shows a layout that is kept for tests."""

    def __init__(self, layouts: tuple[int, ...] = TRAINING, first_seed: int = 0) -> None:
        self.layouts, self.first_seed = layouts, first_seed

    def texts(self) -> Iterator[str]:
        yield from (*ROOMS, *FURNITURE, *THINGS)
        yield "; near the nothing; hand: empty, open closed on off"

    def draw(self, number: int, size: int) -> Lesson:
        rng = np.random.default_rng((3, self.first_seed, number))
        seen = [self._room(rng) for _ in range(size)]
        images = torch.from_numpy(np.stack([image for image, _ in seen])).permute(0, 3, 1, 2).float() / 255
        return images, [text for _, text in seen]

    def exam(self, size: int) -> Lesson:
        return self.draw(1_000_000, size)

    def _room(self, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        world = World(int(rng.choice(self.layouts)), self.first_seed + int(rng.integers(9000)))
        expert = Expert(world)
        for _ in range(int(rng.integers(12))):
            able = [skill for skill in all_skills() if not world.obstacle(skill)] if rng.random() < WANDER else [expert.decide()]
            world.act(able[int(rng.integers(len(able)))])
            if world.reached:
                break
            expert.watch()
        sight = world.sight()
        return render(sight, world.number, int(rng.integers(1 << 30))), describe(sight)

"""Rendered scenes → batches to learn from, for the segmenter (`Pictures`) and for the namer (`Cuts`).

A batch is a function of its random generators alone. Shapes: B pictures, T thing slots, N cuts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from perception.grounder.augment import relight, retexture
from perception.grounder.model import KINDS, STRIDE
from perception.grounder.namer import cut, frames
from perception.grounder.scenes import ROBOT, SLOTS, VIEWS, open_arrays

OBJECT, BOWL, MACHINE = (KINDS.index(name) for name in ("object", "bowl", "robot"))
SEEN = 12
"""A thing that shows fewer pixels in a view is not asked about there."""
NOWHERE, CHIMERAS = 0.2, 0.12
"""Shares of cuts that show no thing, and that show halves of two."""
IGNORED = -100


@dataclass(frozen=True)
class Pictures:
    """For the segmenter."""

    images: Tensor  # [B, 3, 128, 128] in [0, 1]
    kind: Tensor  # int64 [B, 128, 128]
    masks: Tensor  # float32 [B, T, 64, 64]
    seen: Tensor  # bool [B, T]


@dataclass(frozen=True)
class Cuts:
    """For the namer; indices of colour and shape, the last of each "none of these", IGNORED where not asked."""

    cuts: Tensor  # [N, 4, 32, 32]
    color: Tensor  # int64 [N]
    shape: Tensor  # int64 [N]


def names_in(folders: list[Path]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Every colour and every shape that things have there."""
    pairs = [str(name).split() for folder in folders for name in np.unique(open_arrays(folder)["names"]) if name]
    return tuple(sorted({pair[0] for pair in pairs})), tuple(sorted({pair[-1] for pair in pairs}))


class Teacher:
    """Draws batches from rendered scenes of one or several folders."""

    def __init__(self, folders: list[Path], colors: tuple[str, ...], shapes: tuple[str, ...]) -> None:
        self.arrays = [open_arrays(folder) for folder in folders]
        self.index = [(f, i) for f, arrays in enumerate(self.arrays) for i in range(len(arrays["start"]))]
        self.colors = {color: c for c, color in enumerate(colors)}
        self.shapes = {shape: s for s, shape in enumerate(shapes)}

    def pictures(self, scenes: np.ndarray, generator: torch.Generator | None) -> Pictures:
        """Both views of scenes given by their places in `index`; augmented if there is a `generator`."""
        images, ids, names = self._read(scenes)
        if generator is not None:
            images = relight(retexture(images, ids == 0, generator), generator)
            flip = torch.rand(len(images), generator=generator) < 0.5
            images[flip], ids[flip] = images[flip].flip(-1), ids[flip].flip(-1)
        masks = (ids[:, None, ::STRIDE, ::STRIDE] == torch.arange(1, names.shape[1] + 1)[:, None, None]).float()
        table = torch.zeros(len(ids), 256, dtype=torch.int64)
        table[:, 1 : SLOTS + 1] = OBJECT
        table[:, 1 : names.shape[1] + 1][torch.from_numpy(np.char.endswith(names, " bowl"))] = BOWL
        table[:, ROBOT] = MACHINE
        kind = table.gather(1, ids.flatten(1).long()).view(ids.shape)
        return Pictures(images, kind, masks, masks.sum((2, 3)) * STRIDE**2 >= SEEN)

    def cuts(self, scenes: np.ndarray, generator: torch.Generator | None) -> Cuts:
        """Every thing in both views of the scenes; augmented, and with cuts of nothing and of chimeras, if there is a `generator`."""
        images, ids, names = self._read(scenes)
        masks = (ids[:, None] == torch.arange(1, names.shape[1] + 1)[:, None, None]).float()
        owner, slot = (masks.sum((2, 3)) >= SEEN).nonzero(as_tuple=True)
        said = [str(names[o, s]).split() for o, s in zip(owner, slot, strict=True)]
        color = torch.tensor([self.colors[words[0]] for words in said])
        shape = torch.tensor([self.shapes[words[-1]] for words in said])
        masks, taken = masks[owner, slot], masks.amax(1)[owner]
        if generator is None:
            return Cuts(cut(images, masks, owner, frames(masks)), color, shape)
        masks, gone = self._elsewhere(masks, taken, generator)
        color, shape = color.where(~gone, len(self.colors)), shape.where(~gone, len(self.shapes))
        where = frames(masks)
        where = where + torch.randn(where.shape, generator=generator) * torch.tensor([0.06, 0.06, 0.1]) * where[:, 2:]
        cuts = cut(images, masks, owner, where)
        flip = torch.rand(len(cuts), generator=generator) < 0.5
        cuts[flip] = cuts[flip].flip(-1)
        cuts = torch.cat([relight(cuts[:, :3], generator), _worn(cuts[:, 3:], generator)], 1)
        return self._chimeras(Cuts(cuts, color, shape), generator)

    def _read(self, scenes: np.ndarray) -> tuple[Tensor, Tensor, np.ndarray]:
        """Images `[B, 3, 128, 128]` in [0, 1], ids, and the names of as many slots as are used; both views of each scene."""
        rows = [(self.arrays[f], i) for f, i in (self.index[s] for s in scenes)]
        images, ids = (torch.from_numpy(np.concatenate([a[name][i] for a, i in rows])) for name in ("images", "ids"))
        names = np.repeat(np.stack([a["names"][i] for a, i in rows]), len(VIEWS), 0)
        used = int(np.flatnonzero((names != "").any(0))[-1]) + 1
        return images.permute(0, 3, 1, 2).float() / 255, ids, names[:, :used]

    @staticmethod
    def _elsewhere(masks: Tensor, taken: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Move some outlines to where there is no thing; which ones were moved."""
        shift = torch.randint(20, 108, (2,), generator=generator).tolist()
        moved = masks.roll(shift, (1, 2)) * (1 - taken)
        chosen = torch.rand(len(masks), generator=generator) < NOWHERE
        gone = chosen & (moved.sum((1, 2)) >= SEEN)
        return torch.where(gone[:, None, None], moved, masks), gone

    def _chimeras(self, batch: Cuts, generator: torch.Generator) -> Cuts:
        """Replace some cuts by halves of two things: a shape that no word fits."""
        count = len(batch.cuts)
        other = torch.randperm(count, generator=generator)
        mixed = (torch.rand(count, generator=generator) < CHIMERAS) & (batch.shape != batch.shape[other])
        cuts, half = batch.cuts.clone(), batch.cuts.shape[-1] // 2
        side = torch.where(torch.rand(count, generator=generator)[:, None, None, None] < 0.5, batch.cuts, batch.cuts.transpose(2, 3))
        cuts[mixed] = torch.cat([side[..., :half], side[other][..., half:]], -1)[mixed]
        same = batch.color == batch.color[other]
        color = torch.where(mixed & ~same, torch.tensor(IGNORED), batch.color)
        return Cuts(cuts, color, torch.where(mixed, torch.tensor(len(self.shapes)), batch.shape))


def _worn(outlines: Tensor, generator: torch.Generator) -> Tensor:
    """Grow or shrink some outlines `[N, 1, 32, 32]` a little, as a segmenter would get them wrong."""
    grown = F.max_pool2d(outlines, 3, 1, 1)
    shrunk = 1 - F.max_pool2d(1 - outlines, 3, 1, 1)
    chance = torch.rand(len(outlines), 1, 1, 1, generator=generator)
    return torch.where(chance < 0.25, grown, torch.where(chance < 0.45, shrunk, outlines))

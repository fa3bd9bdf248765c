"""Rendered scenes → batches to learn from. A batch is a function of its generator alone. Shapes: B scenes, V = 2 views, cells of 8×8 pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from perception.grounder.augment import relight, retexture
from perception.grounder.scenes import ROBOT
from perception.lifting import point_map, transform
from perception.vggt.scenes import SIZE, open_arrays

PATCH = 8
CELLS = SIZE // PATCH
ENOUGH = 12
"""Pixels of a cell of 64 that the thing it is said to show must have."""
FAR = 3.0
"""Metres; what is farther is a backdrop."""


@dataclass(frozen=True)
class Lesson:
    """A batch.

    Attributes:
        images: `[B, V, 3, 96, 96]` in [0, 1].
        depth: `[B, V, 96, 96]` metres.
        points: `[B, V, n, 3]`, where the middle of each cell is in the first camera's frame, metres; n cells, row by row.
        camera: `[B, 7]`, the second camera in the frame of the first: position, and rotation as a quaternion (w ≥ 0).
        color, shape: `[B, V, n]`, class of the thing that a cell shows most of; the last two are the robot and nothing.
    """

    images: Float[Tensor, "b v 3 h w"]
    depth: Float[Tensor, "b v h w"]
    points: Float[Tensor, "b v n 3"]
    camera: Float[Tensor, "b 7"]
    color: Int[Tensor, "b v n"]
    shape: Int[Tensor, "b v n"]


class Teacher:
    """Draws batches from a folder of rendered scenes."""

    def __init__(self, folder: Path, colors: tuple[str, ...], shapes: tuple[str, ...]) -> None:
        self.arrays, self.colors, self.shapes = open_arrays(folder), colors, shapes
        self._classes: dict[str, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self.arrays["images"])

    def lesson(self, scenes: np.ndarray, generator: torch.Generator | None) -> Lesson:
        """Scenes by number; with other light and backgrounds if there is a `generator`."""
        a = {name: np.asarray(array[scenes]) for name, array in self.arrays.items()}
        images, ids = torch.from_numpy(a["images"]).permute(0, 1, 4, 2, 3).float() / 255, torch.from_numpy(a["ids"])
        depth, poses = torch.from_numpy(a["depth"].astype(np.float32)).clamp(max=FAR), torch.from_numpy(a["poses"])
        if generator is not None:
            flat = relight(retexture(images.flatten(0, 1), ids.flatten(0, 1) == 0, generator), generator)
            images = flat.view_as(images)
        first = torch.linalg.inv(poses[:, :1]) @ poses  # [B, V, 4, 4]
        middle = depth[..., PATCH // 2::PATCH, PATCH // 2::PATCH]
        scaled = torch.from_numpy(a["intrinsics"]).clone()
        scaled[..., :2, :] /= PATCH
        scaled[..., :2, 2] -= 0.5  # a cell's pixel is the one at its middle
        points = transform(point_map(middle, scaled).flatten(2, 3), first)
        color, shape = self._shown(ids, a["names"])
        camera = torch.cat([first[:, 1, :3, 3], quaternion(first[:, 1, :3, :3])], -1)
        return Lesson(images, depth, points, camera, color, shape)

    def _shown(self, ids: Int[Tensor, "b v h w"], names: np.ndarray) -> tuple[Tensor, Tensor]:
        """Colour and shape class of every cell."""
        tables = torch.zeros(len(ids), 2, 256, dtype=torch.long)
        tables[:, 0], tables[:, 1] = len(self.colors) + 1, len(self.shapes) + 1
        tables[:, 0, ROBOT], tables[:, 1, ROBOT] = len(self.colors), len(self.shapes)
        for row, said in enumerate(names):
            for slot, name in enumerate(said):
                if name:
                    tables[row, :, slot + 1] = torch.tensor(self._class(str(name)))
        cells = F.unfold(ids.flatten(0, 1)[:, None].float(), PATCH, stride=PATCH).long()  # [B·V, 64, n]
        shown = most_shown(cells).view(*ids.shape[:2], -1)
        rows = torch.arange(len(ids))[:, None, None]
        return tables[rows, 0, shown], tables[rows, 1, shown]

    def _class(self, name: str) -> tuple[int, int]:
        if name not in self._classes:
            color, shape = name.split()
            self._classes[name] = self.colors.index(color), self.shapes.index(shape)
        return self._classes[name]


def most_shown(cells: Int[Tensor, "b p n"]) -> Int[Tensor, "b n"]:
    """The thing (not background) with the most pixels of each cell, if it has enough; else 0."""
    counts = torch.zeros(cells.shape[0], 256, cells.shape[2], dtype=torch.int16)
    counts.scatter_add_(1, cells, torch.ones_like(cells, dtype=torch.int16))
    counts[:, 0] = 0
    most, which = counts.max(1)
    return which.where(most >= ENOUGH, 0)


def words_in(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Every colour and every shape that things have there, bowls included."""
    pairs = [str(name).split() for name in np.unique(open_arrays(folder)["names"]) if name]
    return tuple(sorted({pair[0] for pair in pairs})), tuple(sorted({pair[1] for pair in pairs}))


def quaternion(rotation: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 4"]:
    """(w, x, y, z) with w ≥ 0: the largest eigenvector of Bar-Itzhack's symmetric matrix, which has no singular cases."""
    r = rotation.double()
    k = torch.zeros(len(r), 4, 4, dtype=torch.float64)
    k[:, 1:, 1:] = r + r.mT - torch.eye(3) * r.diagonal(dim1=1, dim2=2).sum(-1)[:, None, None]
    k[:, 0, 0] = r.diagonal(dim1=1, dim2=2).sum(-1)
    for i, (a, b) in enumerate(((2, 1), (0, 2), (1, 0)), 1):
        k[:, 0, i] = k[:, i, 0] = r[:, a, b] - r[:, b, a]
    found = torch.linalg.eigh(k).eigenvectors[..., -1]
    return (found * torch.where(found[:, :1] < 0, -1, 1)).float()


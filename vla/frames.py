"""The pictures of the demonstrations as batches, wherever they come from: a store on disk (`vla.store`) or a stream (`vla.streaming`), of
one data set or of several.

A camera that one of several data sets lacks is black there, and its depth unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from perception.percept import Batch
from vla.store import Reader, Track

__all__ = ["Frames", "Shelf", "Track"]


@dataclass(frozen=True)
class Shelf:
    """One data set's pictures: frames `start` and on of all. `intrinsics` by camera, where known."""

    reader: Reader
    start: int
    intrinsics: dict[str, np.ndarray]


class Frames:
    """Random access to the pictures of `cameras`, in that order."""

    def __init__(self, shelves: Sequence[Shelf], cameras: tuple[str, ...]) -> None:
        self.shelves, self.cameras = tuple(shelves), cameras
        self.starts = np.array([shelf.start for shelf in shelves])
        common = set.intersection(*(set(shelf.intrinsics) for shelf in shelves))
        self.calibrated = tuple(camera for camera in cameras if camera in common)

    def add_to(self, batch: Batch, index: np.ndarray) -> Batch:
        """`batch` with the pictures of frames `index [B]`, on the device of its state."""
        device, shelf_of = batch.state.device, np.searchsorted(self.starts, index, "right") - 1

        def gather(kind: str, *, everywhere: bool = False) -> dict[str, Tensor]:
            owners = {camera: [shelf.reader.has(f"{kind}-{camera}") for shelf in self.shelves] for camera in self.cameras}
            return {camera: torch.from_numpy(self._read(f"{kind}-{camera}", index, shelf_of)).to(device)
                    for camera, owns in owners.items() if (all if everywhere else any)(owns)}

        intrinsics = {}
        for camera in self.calibrated:
            matrices = np.stack([shelf.intrinsics[camera] for shelf in self.shelves])
            intrinsics[camera] = torch.from_numpy(matrices[shelf_of]).to(device)
        return replace(batch, rgb=gather("rgb"), depth=gather("depth"), world_from_camera=gather("pose", everywhere=True),
                       intrinsics=intrinsics)

    def expect(self, index: np.ndarray) -> None:
        """These frames will be asked for soon."""
        shelf_of = np.searchsorted(self.starts, index, "right") - 1
        for number in np.unique(shelf_of):
            self.shelves[number].reader.expect(index[shelf_of == number] - self.starts[number])

    def _read(self, name: str, index: np.ndarray, shelf_of: np.ndarray) -> np.ndarray:
        if len(self.shelves) == 1:
            return self.shelves[0].reader.read(name, index)
        values: np.ndarray | None = None
        for number in np.unique([i for i, shelf in enumerate(self.shelves) if shelf.reader.has(name)]):
            rows = shelf_of == number
            part = self.shelves[number].reader.read(name, index[rows] - self.starts[number] if rows.any() else np.zeros(1, int))
            if values is None:
                values = np.zeros((len(index), *part.shape[1:]), part.dtype)
            if rows.any():
                values[rows] = part
        return values

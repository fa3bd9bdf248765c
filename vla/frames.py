"""The pictures of a data set, decoded once into memory-mapped arrays that any frame can be read from at memory speed.

    rgb-CAMERA.npy     uint8   [N, H, W, 3]
    depth-CAMERA.npy   float32 [N, H, W]      metres, only if a front-end asks for depth
    pose-CAMERA.npy    float32 [N, 4, 4]      world_from_camera, likewise and where recorded

N counts the data set's frames, all episodes in order. The operating system keeps what is used in memory, and shares it
between processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from perception.percept import Batch
from robot_io.dataset import Dataset
from vla.cache import cached_folder, key_of, open_arrays

Track = Callable[[Iterable, str], Iterable]
"""`track(items, description)` yields the items, showing progress."""


class Frames:
    """Random access to the pictures of `cameras`, in that order."""

    def __init__(self, dataset: Dataset, digest: str, cameras: tuple[str, ...], *, depth: bool, cache: Path,
                 track: Track) -> None:
        self.cameras = cameras
        self.intrinsics = {name: dataset.intrinsics(name) for name in cameras} if depth else {}
        key = "frames-" + key_of(data=digest, cameras=cameras, depth=depth)
        self.arrays = open_arrays(cached_folder(cache, key, lambda folder: _decode(dataset, cameras, depth, folder, track)))

    def add_to(self, batch: Batch, index: np.ndarray) -> Batch:
        """`batch` with the pictures of frames `index [B]`, on the device of its state."""
        device = batch.state.device

        def gather(kind: str) -> dict[str, Tensor]:
            return {name: torch.from_numpy(self.arrays[f"{kind}-{name}"][index]).to(device)
                    for name in self.cameras if f"{kind}-{name}" in self.arrays}

        intrinsics = {name: torch.from_numpy(matrix).expand(len(index), 3, 3).to(device)
                      for name, matrix in self.intrinsics.items() if matrix is not None}
        return replace(batch, rgb=gather("rgb"), depth=gather("depth"), world_from_camera=gather("pose"), intrinsics=intrinsics)


def _decode(dataset: Dataset, cameras: tuple[str, ...], depth: bool, folder: Path, track: Track) -> None:
    readers = {"rgb": dataset.rgb, **({"depth": dataset.depth, "pose": dataset.camera_pose} if depth else {})}
    stores: dict[str, np.ndarray] = {}
    frames = len(dataset)
    for episode in track(dataset.episodes, "decoding frames"):
        for camera in cameras:
            for kind, read in readers.items():
                values = read(camera, episode)
                if values is None:
                    continue
                name = f"{kind}-{camera}"
                if name not in stores:
                    shape = (frames, *values.shape[1:])
                    stores[name] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", values.dtype, shape)
                stores[name][episode.start : episode.stop] = values
    for store in stores.values():
        store.flush()

"""The pictures of a data set, decoded once into files that any frame can be read from.

    rgb-CAMERA.npy     uint8   [N, H, W, 3]   store=raw: lossless, read at memory speed
    rgb-CAMERA.jpeg, jpeg-CAMERA.npy          store=jpeg: pictures one after the other, and where each begins (int64 [N + 1])
    depth-CAMERA.npy   float32 [N, H, W]      metres, only if a front-end asks for depth
    pose-CAMERA.npy    float32 [N, 4, 4]      world_from_camera, likewise and where recorded

N counts the data set's frames, all episodes in order. They are memory-mapped: the operating system keeps what is used in memory, and
shares it between processes. Episodes are decoded on several threads (FFmpeg and Pillow work without Python's lock).
"""

from __future__ import annotations

import io
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from robot_io import UserError
from robot_io.dataset import Dataset, Episode
from vla.cache import cached_folder, key_of, open_arrays
from vla.recipe import Data

Track = Callable[[Iterable, str], Iterable]
"""`track(items, description)` yields the items, showing progress."""

JPEG_QUALITY = 95
SPARE = 0.05
"""Share of the disk that is left free."""


class Reader(Protocol):
    """Pictures by name (`rgb-CAMERA`, `depth-CAMERA`, `pose-CAMERA`) and frame."""

    def has(self, name: str) -> bool: ...

    def read(self, name: str, index: np.ndarray) -> np.ndarray:
        """`[B, ...]`: frames `index [B]`."""
        ...

    def expect(self, index: np.ndarray) -> None:
        """These frames will be asked for soon."""


@dataclass(frozen=True)
class View:
    """A camera as the policy sees it: what it calls it, what the data set calls it, and the size it wants."""

    name: str
    recorded: str
    height: int
    width: int


class Decoder:
    """Reads an episode's pictures under the policy's names and at its sizes."""

    def __init__(self, dataset: Dataset, views: Sequence[View], *, depth: bool) -> None:
        self.dataset, self.views, self.depth = dataset, tuple(views), depth

    def __call__(self, episode: Episode) -> dict[str, np.ndarray]:
        found = {}
        for view in self.views:
            found[f"rgb-{view.name}"] = _resized(self.dataset.rgb(view.recorded, episode), view)
            if self.depth:
                depth, pose = self.dataset.depth(view.recorded, episode), self.dataset.camera_pose(view.recorded, episode)
                found |= {} if depth is None else {f"depth-{view.name}": _nearest(depth, view)}
                found |= {} if pose is None else {f"pose-{view.name}": pose}
        return found

    def intrinsics(self, view: View) -> np.ndarray | None:
        matrix = self.dataset.intrinsics(view.recorded)
        if matrix is None:
            return None
        height, width = self.dataset.picture_size(view.recorded)
        return np.diag([view.width / width, view.height / height, 1]).astype(np.float32) @ matrix


def frame_bytes(views: Sequence[View], *, depth: bool) -> int:
    """Of one decoded frame, all cameras."""
    return sum(view.height * view.width * (3 + 4 * depth) for view in views)


def threads(data: Data) -> int:
    return data.workers or len(os.sched_getaffinity(0))


def ahead(work: Callable[[Any], Any], items: Iterable[Any], workers: int) -> Iterator[tuple[Any, Any]]:
    """`(item, work(item))` in order, computed on `workers` threads, never more than two per thread ahead."""
    with ThreadPoolExecutor(workers) as pool:
        pending: deque = deque()
        for item in items:
            pending.append((item, pool.submit(work, item)))
            if len(pending) >= 2 * workers:
                first, future = pending.popleft()
                yield first, future.result()
        while pending:
            first, future = pending.popleft()
            yield first, future.result()


class Store:
    """Random access to what lies on disk; decodes it first if it is not there yet."""

    def __init__(self, decoder: Decoder, digest: str, data: Data, cache: Path, track: Track) -> None:
        dataset, views = decoder.dataset, decoder.views
        parts: dict[str, Any] = {"data": digest, "cameras": tuple(view.name for view in views), "depth": decoder.depth}
        if data.store != "raw":
            parts |= {"store": data.store, "quality": JPEG_QUALITY}
        if any(view.name != view.recorded or dataset.picture_size(view.recorded) != (view.height, view.width) for view in views):
            parts["views"] = views
        limit = _limit(data, cache)
        write = {"raw": _write_raw, "jpeg": _write_jpeg}[data.store]

        def build(folder: Path) -> None:
            if data.store == "raw":
                _require_room(len(dataset) * frame_bytes(views, depth=decoder.depth), limit, data, dataset)
            episodes = track(dataset.episodes, "decoding frames")
            write(folder, dataset, ahead(decoder, episodes, threads(data)), lambda size: _require_room(size, limit, data, dataset))

        folder = cached_folder(cache, "frames-" + key_of(**parts), build, verify=data.verify)
        self.arrays = open_arrays(folder)
        self.packed = {path.stem: np.memmap(path, np.uint8, "r") for path in folder.glob("rgb-*.jpeg")}

    def has(self, name: str) -> bool:
        return name in self.arrays or name in self.packed

    def read(self, name: str, index: np.ndarray) -> np.ndarray:
        if name in self.arrays:
            return self.arrays[name][index]
        return _unpack(self.packed[name], self.arrays[name.replace("rgb-", "jpeg-", 1)], index)

    def expect(self, index: np.ndarray) -> None:
        pass


def _write_raw(folder: Path, dataset: Dataset, episodes: Iterable[tuple[Episode, dict]], check: Callable[[int], None]) -> None:
    stores: dict[str, np.ndarray] = {}
    for episode, arrays in episodes:
        for name, values in arrays.items():
            _rows(stores, folder, name, values, len(dataset))[episode.start : episode.stop] = values
    for store in stores.values():
        store.flush()


def _write_jpeg(folder: Path, dataset: Dataset, episodes: Iterable[tuple[Episode, dict]], check: Callable[[int], None]) -> None:
    files: dict[str, Any] = {}
    lengths: dict[str, list[int]] = {}
    stores: dict[str, np.ndarray] = {}
    for episode, arrays in episodes:
        for name, values in arrays.items():
            if not name.startswith("rgb-"):
                _rows(stores, folder, name, values, len(dataset))[episode.start : episode.stop] = values
                continue
            if name not in files:
                files[name], lengths[name] = (folder / f"{name}.jpeg").open("wb"), []
            for picture in values:
                packed = _pack(picture)
                files[name].write(packed)
                lengths[name].append(len(packed))
        check(sum(sum(sizes) for sizes in lengths.values()) + sum(store.nbytes for store in stores.values()))
    for name, file in files.items():
        file.close()
        np.save(folder / f"{name.replace('rgb-', 'jpeg-', 1)}.npy", np.cumsum([0, *lengths[name]]))


def _rows(stores: dict[str, np.ndarray], folder: Path, name: str, like: np.ndarray, frames: int) -> np.ndarray:
    if name not in stores:
        stores[name] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", like.dtype, (frames, *like.shape[1:]))
    return stores[name]


def _pack(picture: np.ndarray) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return stream.getvalue()


def _unpack(packed: np.ndarray, bounds: np.ndarray, index: np.ndarray) -> np.ndarray:
    from PIL import Image

    return np.stack([np.asarray(Image.open(io.BytesIO(packed[bounds[i] : bounds[i + 1]].tobytes()))) for i in index])


def _resized(rgb: np.ndarray, view: View) -> np.ndarray:
    """Antialiased. The proportions are the same: `vla.sources` has checked them."""
    if rgb.shape[1:3] == (view.height, view.width):
        return rgb
    from PIL import Image

    return np.stack([np.asarray(Image.fromarray(p).resize((view.width, view.height), Image.Resampling.BILINEAR)) for p in rgb])


def _nearest(depth: np.ndarray, view: View) -> np.ndarray:
    rows, columns = (np.arange(size) * old // size for size, old in zip((view.height, view.width), depth.shape[1:], strict=True))
    return depth[:, rows[:, None], columns]


def _limit(data: Data, cache: Path) -> int:
    """Bytes that the store may take."""
    if data.store_gb is not None:
        return int(1e9 * data.store_gb)
    cache.mkdir(parents=True, exist_ok=True)
    disk = shutil.disk_usage(cache)
    return max(0, int(disk.free - SPARE * disk.total))


def _require_room(size: int, limit: int, data: Data, dataset: Dataset) -> None:
    if size > limit:
        bound = "data.store_gb" if data.store_gb is not None else "free on the cache's disk"
        other = "data.store=jpeg (about a fifth of it) or " if data.store == "raw" else ""
        raise UserError(f"decoded pictures of data set {dataset.root}", f"they take {size / 1e9:.3g} GB",
                        f"at most {limit / 1e9:.3g} GB ({bound})", f"set {other}data.store=stream (nothing on disk), make room, or "
                        "move the cache with data.cache")

"""Pictures that are never stored: episodes are decoded when they are needed and forgotten again, for data larger than the disk.

Memory stays within `data.stream_gb`. To make do with that, training visits the data block by block: the episodes are shuffled, cut into
blocks of a third of the memory, and inside a block the frames are shuffled; while one block is trained on, the next is decoded on
other threads, and each episode is decoded at most once a pass. Which frames make up a batch is still a function of (seed, step), so a killed run
goes on with the same ones.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from jaxtyping import Int

from robot_io import UserError
from vla.store import Decoder

BLOCKS = 3
"""How many fit into memory: the one trained on, the next, and what is left of the one before."""


class Stream:
    """Random access to frames through a memory of whole episodes, at most `capacity` frames of them."""

    def __init__(self, decoder: Decoder, capacity: int, workers: int) -> None:
        longest = max(episode.length for episode in decoder.dataset.episodes)
        if capacity < BLOCKS * longest:
            raise UserError("data.stream_gb", f"room for {capacity} frames of data set {decoder.dataset.root}, whose longest episode has "
                            f"{longest}", f"room for {BLOCKS} such episodes", f"multiply it by {BLOCKS * longest / capacity:.2g}")
        self.decoder, self.capacity = decoder, capacity
        self.episodes = decoder.dataset.episodes
        self.starts = np.array([episode.start for episode in self.episodes])
        self._held: OrderedDict[int, Future] = OrderedDict()
        self._frames = 0
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        self._lock = threading.Lock()

    @property
    def frames(self) -> int:
        """How many are held or being decoded."""
        return self._frames

    def has(self, name: str) -> bool:
        return name in self._arrays(0)

    def read(self, name: str, index: Int[np.ndarray, " b"]) -> np.ndarray:
        numbers = self._numbers(index)
        values: np.ndarray | None = None
        for number in np.unique(numbers):
            rows = numbers == number
            part = self._arrays(int(number))[name][index[rows] - self.starts[number]]
            if values is None:
                values = np.empty((len(index), *part.shape[1:]), part.dtype)
            values[rows] = part
        return values

    def expect(self, index: Int[np.ndarray, " b"]) -> None:
        for number in np.unique(self._numbers(index)):
            self._hold(int(number))

    def _numbers(self, index: Int[np.ndarray, " b"]) -> Int[np.ndarray, " b"]:
        return np.searchsorted(self.starts, index, "right") - 1

    def _arrays(self, number: int) -> dict[str, np.ndarray]:
        return self._hold(number).result()

    def _hold(self, number: int) -> Future:
        """The episode, decoded or on its way; the least recently used ones make room for it."""
        with self._lock:
            if number not in self._held:
                self._held[number] = self._pool.submit(self.decoder, self.episodes[number])
                self._frames += self.episodes[number].length
                while self._frames > self.capacity and len(self._held) > 1:
                    oldest, future = self._held.popitem(last=False)
                    future.cancel()
                    self._frames -= self.episodes[oldest].length
            self._held.move_to_end(number)
            return self._held[number]


@lru_cache(maxsize=4)
def block_shuffle(lengths: tuple[int, ...], block: int, seed: int, lap: int) -> Int[np.ndarray, " n"]:
    """A permutation of the frames of episodes of these lengths that visits them block by block: at most `block` frames of whole episodes,
    or one longer episode."""
    random = np.random.default_rng([seed, lap])
    sizes = np.array(lengths)
    starts = np.cumsum(sizes) - sizes
    order = random.permutation(len(sizes))
    return np.concatenate([random.permutation(_frames(starts, sizes, chosen)) for chosen in _blocks(order, lengths, block)])


def _blocks(order: Sequence[int], lengths: tuple[int, ...], block: int) -> list[list[int]]:
    found, room = [], 0
    for number in order:
        if lengths[number] > room:
            found.append([])
            room = block
        found[-1].append(int(number))
        room -= lengths[number]
    return found


def _frames(starts: np.ndarray, sizes: np.ndarray, chosen: Sequence[int]) -> np.ndarray:
    return np.concatenate([np.arange(starts[i], starts[i] + sizes[i]) for i in chosen])

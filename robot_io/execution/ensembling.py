"""Temporal ensembling (Zhao et al., ACT, arXiv 2304.13705, section IV-B): every step's action is an average over the chunks that say
something about it, weighted exp(-m·i), i = 0 for the oldest.

A chunk is asked for whenever none is on its way: at every step, or with latency as often as answers come.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32


class TemporalEnsembling:
    """Averages overlapping chunks.

    Args:
        decay: m; the smaller, the more new chunks count. ACT's is 0.01.
    """

    needs_prefix = False

    def __init__(self, decay: float = 0.01) -> None:
        self._decay = decay
        self.reset()

    def reset(self) -> None:
        self._now = self._asked = 0
        self._chunks: list[tuple[int, np.ndarray]] = []

    def due(self) -> bool:
        return True

    def ask(self, delay: int) -> None:
        self._asked = self._now

    def accept(self, actions: Float32[np.ndarray, "t a"]) -> None:
        self._chunks.append((self._asked, actions))

    def action(self) -> Float32[np.ndarray, " a"] | None:
        self._chunks = [(start, chunk) for start, chunk in self._chunks if self._now < start + len(chunk)]
        if not self._chunks:
            return None
        said = np.stack([chunk[self._now - start] for start, chunk in self._chunks])
        weights = np.exp(-self._decay * np.arange(len(said)))
        self._now += 1
        return (weights / weights.sum() @ said).astype(np.float32)

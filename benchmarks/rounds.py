"""Rounds of a measurement, their median, and ratios of medians with bootstrap intervals."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla.results import Row


@dataclass(frozen=True)
class Measured:
    """One quantity of one side, by round."""

    part: str
    what: str
    side: str
    metric: str
    values: Sequence[float]

    @property
    def summary(self) -> tuple[float, float, float]:
        return _interval(_medians(self.values), float(np.median(self.values)))


@dataclass(frozen=True)
class Ratio:
    """The median of `ours` over that of `theirs` (the other way round where less is better)."""

    part: str
    what: str
    ours: Sequence[float]
    theirs: Sequence[float]
    side: str = "ratio"
    metric: str = "ratio"

    @property
    def values(self) -> Sequence[float]:
        return self.ours

    @property
    def summary(self) -> tuple[float, float, float]:
        return _interval(_medians(self.ours, 0) / _medians(self.theirs, 1), float(np.median(self.ours) / np.median(self.theirs)))


def cpu_seconds(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def rows_of(found: Sequence[Measured | Ratio], command: str) -> list[Row]:
    rows = []
    for one in found:
        middle, low, high = one.summary
        rows.append({"cell": {"part": one.part, "what": one.what, "side": one.side, "unit": one.metric.replace("_", " ")}, "metric": "median",
                     "mean": middle, "low": low, "high": high, "n": len(one.values), "seeds": [], "recipe": "", "command": command})
    return rows


def _medians(values: Sequence[float], seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).integers(0, len(values), (2000, len(values)))
    return np.median(np.asarray(values)[drawn], axis=1)


def _interval(medians: np.ndarray, middle: float) -> tuple[float, float, float]:
    return middle, *(float(value) for value in np.quantile(medians, [0.025, 0.975]))

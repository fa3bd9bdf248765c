"""Statistics of a data set as `meta/stats.json` holds them: min, max, mean, std, count and five quantiles per feature.

Vectors are described per dimension, pictures per channel (colours divided by 255, shape [3, 1, 1], as LeRobot does). A
merge of episodes is exact but for the quantiles, which LeRobot averages weighted by count; `Recorder.finish` replaces
those of the vectors by exact ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
Stats = dict[str, np.ndarray]


def describe(values: np.ndarray) -> Stats:
    """Statistics of `values [T, …]` over its first axis, flattened to one vector per statistic."""
    values = values.reshape(len(values), -1)
    exact = values.astype(np.float64)
    return {
        "min": values.min(axis=0), "max": values.max(axis=0), "mean": exact.mean(axis=0), "std": exact.std(axis=0),
        "count": np.array([len(values)]),
        **dict(zip(QUANTILES, np.quantile(exact, list(QUANTILES.values()), axis=0), strict=True)),
    }


class PixelHistogram:
    """Exact statistics of integer pictures in constant memory: a histogram per channel, one picture at a time.

    Pictures are thinned to at most 127 pixels a side (LeRobot thins them too, to about 150).
    """

    def __init__(self, channels: int, levels: int) -> None:
        self._counts = np.zeros((channels, levels), np.int64)
        self._pictures = 0

    def add(self, picture: np.ndarray) -> None:
        """Count one picture, unsigned integers `[H, W, C]`."""
        step = max(1, max(picture.shape[:2]) // 64)
        for counts, channel in zip(self._counts, np.moveaxis(picture[::step, ::step], -1, 0), strict=True):
            counts += np.bincount(channel.ravel(), minlength=len(counts))
        self._pictures += 1

    def describe(self) -> Stats:
        """Per channel, in the pictures' own unit; `count` is the number of pictures."""
        levels = np.arange(self._counts.shape[1], dtype=np.float64)
        pixels = self._counts[0].sum()
        mean = self._counts @ levels / pixels
        variance = np.array([counts @ (levels - m) ** 2 for counts, m in zip(self._counts, mean, strict=True)]) / pixels
        below = self._counts.cumsum(axis=1)
        present = self._counts > 0
        return {
            "min": levels[present.argmax(axis=1)], "max": levels[::-1][present[:, ::-1].argmax(axis=1)],
            "mean": mean, "std": np.sqrt(variance), "count": np.array([self._pictures]),
            **{name: levels[(below >= q * pixels).argmax(axis=1)] for name, q in QUANTILES.items()},
        }


def as_colour(stats: Stats) -> Stats:
    """Statistics of 8-bit channels in LeRobot's form: in [0, 1], shape [3, 1, 1]."""
    return {name: value if name == "count" else (value / 255).reshape(-1, 1, 1) for name, value in stats.items()}


def merge(parts: list[Stats]) -> Stats:
    """Statistics of several sets of frames together (Chan's parallel variance)."""
    counts = np.stack([part["count"] for part in parts]).astype(np.float64)
    total = counts.sum()
    weights = (counts / total).reshape(-1, *[1] * parts[0]["mean"].ndim)

    def average(name: str) -> np.ndarray:
        return (np.stack([part[name] for part in parts]) * weights).sum(axis=0)

    mean = average("mean")
    spread = np.stack([part["std"] ** 2 + (part["mean"] - mean) ** 2 for part in parts])
    return {
        "min": np.stack([part["min"] for part in parts]).min(axis=0),
        "max": np.stack([part["max"] for part in parts]).max(axis=0),
        "mean": mean, "std": np.sqrt((spread * weights).sum(axis=0)), "count": np.array([int(total)]),
        **{name: average(name) for name in QUANTILES},
    }


def to_json(stats: dict[str, Stats]) -> dict[str, dict[str, Any]]:
    return {key: {name: np.asarray(value).tolist() for name, value in entry.items()} for key, entry in stats.items()}


def from_json(data: dict[str, dict[str, Any]]) -> dict[str, Stats]:
    return {key: {name: np.asarray(value) for name, value in entry.items()} for key, entry in data.items()}

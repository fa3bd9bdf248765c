"""Where else the log of a run goes: TensorBoard files in the run's folder, Weights & Biases. Through Accelerate's trackers.

The log itself is always `metrics.jsonl`. A run that continues draws on where it stopped.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from accelerate.tracking import TensorBoardTracker, WandBTracker

from robot_io import UserError
from vla.recipe import Recipe


class Trackers:
    """Those that the recipe names."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        """Raises `UserError` if one of them is not installed."""
        self._open: list[Any] = []
        for name in recipe.train.trackers:
            if importlib.util.find_spec(name) is None:
                raise UserError("train.trackers", f"'{name}' is not installed", "the package of that name",
                                f"run: pip install {name}, or leave it out")
            tracker = (TensorBoardTracker("tensorboard", logging_dir=str(folder)) if name == "tensorboard"
                       else WandBTracker(recipe.name, dir=str(folder), id=f"{recipe.hash}-{folder.name}", resume="allow"))
            tracker.start()
            self._open.append(tracker)

    @classmethod
    def none(cls) -> Trackers:
        trackers = cls.__new__(cls)
        trackers._open = []
        return trackers

    def log(self, row: dict[str, float]) -> None:
        for tracker in self._open:
            tracker.log({name: value for name, value in row.items() if name != "step"}, step=int(row["step"]))

    def close(self) -> None:
        for tracker in self._open:
            tracker.finish()

"""A run's folder: which recipe it belongs to, its log, and what came out.

    runs/NAME/recipe.yaml      whose run this is; another recipe is refused
    runs/NAME/metrics.jsonl    one JSON object a line: step, loss, lr, grad_norm, seconds; val_loss when measured
    runs/NAME/checkpoints/     see `vla.train.checkpoint`
    runs/NAME/policy/          the result, see `vla.folder`
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_io import UserError
from vla.files import write_text
from vla.recipe import Document
from vla.sealed import check_seal


@dataclass(frozen=True)
class TrainResult:
    """What training made. `losses` is the training loss at each logged step, averaged since the one before."""

    policy_dir: Path
    seconds: float
    steps: int
    losses: list[float]


class Run:
    """The folder of one training run."""

    def __init__(self, recipe: Document, folder: Path, name: str = "recipe.yaml") -> None:
        """Look at `folder`, whose recipe is the file `name`; nothing is written yet.

        Raises:
            UserError: the folder belongs to another recipe; lists the differences.
        """
        self.folder, self.checkpoints, self.policy = folder, folder / "checkpoints", folder / "policy"
        self.metrics_path = folder / "metrics.jsonl"
        self.described = folder / name
        if self.described.exists() and (changes := type(recipe).from_yaml(self.described).differences(recipe)):
            raise UserError(f"run {folder}", "it was started with another recipe (its own against yours):\n  - "
                            + "\n  - ".join(changes) + "\n", "the same recipe, to continue", "choose another run folder")
        self.recipe = recipe

    def claim(self) -> None:
        """From here on the folder belongs to the recipe. Done once everything else has been found in order."""
        write_text(self.described, self.recipe.to_yaml())

    @property
    def finished(self) -> bool:
        try:
            check_seal(self.policy, "policy")
        except UserError:
            return False
        return True

    def result(self) -> TrainResult:
        rows = self.metrics()
        return TrainResult(self.policy, rows[-1]["seconds"], rows[-1]["step"], [row["loss"] for row in rows if "loss" in row])

    def log(self, row: dict[str, Any]) -> None:
        with self.metrics_path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.metrics_path.read_text().splitlines()]

    def rewind_log(self, step: int) -> None:
        """Forget what was logged after `step`: the run continues from there, and a kill may have cut the last line."""
        if self.metrics_path.exists():
            kept = []
            for line in self.metrics_path.read_text().splitlines():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:
                    break
                if row["step"] <= step:
                    kept.append(line + "\n")
            write_text(self.metrics_path, "".join(kept))

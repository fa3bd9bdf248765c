"""The file an evaluation leaves: one JSON line per trial, each complete in itself.

A row holds the trial, what ran (hashes of policy, recipe and robot spec), where (robot configuration, `execute`,
`max_steps`) and with which versions. Rows are appended as trials end, so a killed evaluation goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from robot_io import UserError
from vla.evaluate.episode import Trial

PACKAGES = ("swapvla", "torch", "numpy", "mujoco", "transformers", "diffusers", "peft")


@dataclass(frozen=True)
class Setting:
    """All that decides how a trial of a given seed goes. One file holds the trials of one setting."""

    policy: str
    recipe: str
    spec: str
    robot: dict[str, Any]
    execute: int | None
    max_steps: int | None
    execution: str = "synchronous"
    delay: int = 0

    def to_dict(self) -> dict[str, Any]:
        """What a row says of it: of `UNSAID` only what is not so, for rows older than these fields."""
        return {name: value for name, value in asdict(self).items() if (name, value) not in UNSAID.items()}


UNSAID = {"execution": "synchronous", "delay": 0}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers; those not installed are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


class TrialFile:
    """Trials on disk, by seed. Opening one checks that it belongs to `setting` and drops a half-written last line."""

    def __init__(self, path: Path | str, setting: Setting) -> None:
        self.path, self.setting = Path(path), setting
        self.trials: dict[int, Trial] = {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._resume()
        self._common = {**setting.to_dict(), "versions": versions()}

    def append(self, trial: Trial) -> None:
        line = json.dumps({**trial.to_dict(), **self._common})
        with self.path.open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.trials[trial.seed] = trial

    def _resume(self) -> None:
        whole, _, partial = self.path.read_bytes().rpartition(b"\n")
        if partial:
            with self.path.open("r+b") as file:
                file.truncate(len(whole) + (1 if whole else 0))
        wanted = json.loads(json.dumps(asdict(self.setting)))
        for number, row in enumerate(read_rows(self.path), 1):
            for name, value in wanted.items():
                if (found := row.get(name, UNSAID.get(name))) != value:
                    raise UserError(
                        f"{self.path}, line {number}", f"holds trials with {name} {found!r}", f"{value!r}, as asked now",
                        "write to another file, or delete this one to start again",
                    )
            self.trials[row["seed"]] = Trial.from_dict(row)


def read_rows(path: Path | str) -> Iterable[dict[str, Any]]:
    """The rows of a trial file, as they were written."""
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            raise UserError(f"{path}, line {number}", "is not JSON", "one trial per line", "delete the file") from None

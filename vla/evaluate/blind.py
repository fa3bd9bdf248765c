"""Trials on a real robot, judged by somebody who does not know which policy is driving.

Scene after scene, each policy has its turn in an order drawn for that scene: the operator puts the objects down, lets an unknown policy drive, puts
them back, lets the next one drive, and says each time whether it succeeded. Which was which is told at the end. Expectations then cannot
colour the judgement, and a battery that runs down or a sun that sets is no policy's disadvantage.

The file holds the drawn order, so it is blind for who does not read it. Every answer is on disk before the next question:

    {"policies": {"raw": "runs/raw/policy", …}, "scenes": 20, "seed": 5}
    {"scene": 0, "turn": 0, "success": true, "note": ""}
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robot_io import UserError
from vla.evaluate.letters import Pair, Standing, rank
from vla.evaluate.sequential import PairedTest
from vla.evaluate.trials import read_rows


@dataclass(frozen=True)
class Turn:
    """One trial to come: the scene, whose turn within it, and which policy that is (not to be shown)."""

    scene: int
    turn: int
    policy: str


class BlindSession:
    """The trials of one file."""

    def __init__(self, path: Path | str, policies: Mapping[str, str] | None = None, scenes: int = 20, seed: int | None = None) -> None:
        """Begin a session, or go on with the one in `path`.

        Args:
            policies: what drives, by name; None takes those of the file.
            seed: of the order; None draws one.

        Raises:
            UserError: fewer than two policies, or a file of another session.
        """
        self.path = Path(path)
        if self.path.exists():
            header, *rows = read_rows(self.path)
            if policies is not None and dict(policies) != header["policies"]:
                raise UserError(f"session {path}", f"it is about {', '.join(header['policies'])}", f"{', '.join(policies)}, as asked now",
                                "name the same policies, or another file")
        else:
            if len(policies or {}) < 2:
                raise UserError("blind trials", f"{len(policies or {})} policies", "two or more", "name another one: NAME=POLICY")
            seed = int.from_bytes(os.urandom(4), "little") if seed is None else seed
            header, rows = {"policies": dict(policies), "scenes": scenes, "seed": seed}, []
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._append(header)
        self.policies: dict[str, str] = header["policies"]
        order = np.random.default_rng(header["seed"])
        names = list(self.policies)
        self.turns = [Turn(scene, turn, names[i]) for scene in range(header["scenes"])
                      for turn, i in enumerate(order.permutation(len(names)).tolist())]
        self.outcomes: dict[tuple[int, int], bool] = {(row["scene"], row["turn"]): row["success"] for row in rows}

    @property
    def next(self) -> Turn | None:
        """The trial to do now; None when all are done."""
        return next((turn for turn in self.turns if (turn.scene, turn.turn) not in self.outcomes), None)

    def record(self, turn: Turn, success: bool, note: str = "") -> None:
        self._append({"scene": turn.scene, "turn": turn.turn, "success": success, "note": note})
        self.outcomes[turn.scene, turn.turn] = success

    def successes(self) -> dict[str, dict[int, bool]]:
        """By policy, success by scene, of the scenes in which every policy had its turn."""
        whole = [scene for scene in {turn.scene for turn in self.turns}
                 if all((scene, turn) in self.outcomes for turn in range(len(self.policies)))]
        return {name: {turn.scene: self.outcomes[turn.scene, turn.turn] for turn in self.turns
                       if turn.policy == name and turn.scene in whole} for name in self.policies}

    def decided(self) -> bool:
        """Whether two policies have been told apart already, so that the rest of the scenes may be spared (`PairedTest`)."""
        if len(self.policies) != 2:
            return False
        test, (a, b) = PairedTest(), self.successes().values()
        for scene in sorted(a):
            test.add(a[scene], b[scene])
        return test.decision is not None

    def reveal(self) -> tuple[list[Standing], list[Pair]]:
        """Who was who.

        Raises:
            UserError: no scene is complete yet.
        """
        found = self.successes()
        if not any(found.values()):
            raise UserError(f"session {self.path}", "no scene in which every policy had its turn", "at least one", "go on with it")
        return rank(found)

    def _append(self, row: dict) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())

"""`told` and `reads`: `pick` with the scene in words, beside the pictures and instead of them.

The words are the template's: what the instruction names first, with its distance in millimetres from the robot. `reads` sees blank pictures: it knows
its own state and the text. Digits mean nothing to the pretrained words, so all but the eye is trained.
"""

from __future__ import annotations

from typing import Any

from vla.recipe import Recipe
from vla.recipes.pick import pick

TEXT: dict[str, Any] = {"kind": "summary", "captioner": {"kind": "template", "unit": "mm"}}


def told() -> Recipe:
    return _with("told", TEXT)


def reads() -> Recipe:
    return _with("reads", TEXT | {"pictures": "hidden"})


def _with(name: str, front_end: dict[str, Any]) -> Recipe:
    tuning = pick().to_dict()["tuning"] | {"mode": "full"}
    return Recipe.from_dict(pick().to_dict() | {"name": name, "perception": (front_end,), "tuning": tuning})

"""What stands on the table and what is asked for: a seed decides both.

Each object has a colour and a shape, no two share both, and the instruction names both, so it is never ambiguous. Positions
are `(x, y)` in metres in the base frame; a width is half the size of the object's footprint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from robot_io.errors import UserError, nearest
from robot_io.tabletop.scene import BOWL_COLORS, BOWL_RADIUS, COLORS, SHAPES

AREA_LOW, AREA_HIGH = np.array([0.36, -0.17]), np.array([0.58, 0.17])
HALF_WIDTHS = (0.0175, 0.0235)
SPACING = 0.105  # between centres: an open finger fits beside its object
BOWL_SPACING = SPACING / 2 + BOWL_RADIUS + 0.03
GAPS = (1.0, 0.9, 0.8)  # shares of the spacing to try for, when the table is crowded
BOWL_INSET = 0.03  # keeps all of a bowl in the front camera's picture

PICK = ("pick up the {object}", "grasp the {object}", "lift the {object}", "take the {object}",
        "raise the {object} off the table")
PLACE = ("put the {object} in the {bowl}", "place the {object} into the {bowl}", "drop the {object} in the {bowl}",
         "move the {object} to the {bowl}")


class Task(BaseModel):
    """What may be asked for and how full the table is.

    Attributes:
        task: `pick` (lift the named object) or `place` (put it in the bowl).
        distractors: objects beside the named one.
        bowls: bowls on the table; None means one for `place`, none for `pick`. With several, the instruction names a colour.
        colors, shapes: what objects are made of.
        paraphrase: say the same thing in several ways.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Literal["pick", "place"] = "pick"
    distractors: int = Field(1, ge=0, le=7)
    bowls: int | None = Field(None, ge=0, le=len(BOWL_COLORS))
    colors: tuple[str, ...] = ("red", "green", "blue", "yellow", "purple", "orange")
    shapes: tuple[str, ...] = ("cube", "cylinder", "ball")
    paraphrase: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        for noun, names, known in (("color", self.colors, COLORS), ("shape", self.shapes, SHAPES)):
            for name in names:
                if name not in known:
                    raise UserError(f"tabletop {noun}", f"'{name}' is not known", "a known name", nearest(name, known))
        if len(set(self.colors)) * len(set(self.shapes)) <= self.distractors:
            found = f"{self.distractors}, but {len(self.colors)} colors and {len(self.shapes)} shapes"
            raise UserError("tabletop distractors", found,
                            "a different color or shape for each object", "give more colors or shapes, or fewer distractors")
        if self.task == "place" and self.bowls == 0:
            raise UserError("tabletop bowls", "0, but the task is 'place'", "at least 1", "leave bowls out or set bowls=1")
        return self

    @property
    def n_bowls(self) -> int:
        return int(self.task == "place") if self.bowls is None else self.bowls


@dataclass(frozen=True)
class Item:
    """One object as laid out."""

    shape: str
    color: str
    half_width: float
    rgb: tuple[float, float, float]
    position: tuple[float, float]
    yaw: float

    @property
    def name(self) -> str:
        return f"{self.color} {self.shape}"


@dataclass(frozen=True)
class Bowl:
    """One bowl as laid out."""

    color: str
    position: tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """A scene and what to do in it: `target` and `bowl` index `items` and `bowls`."""

    items: tuple[Item, ...]
    bowls: tuple[Bowl, ...]
    target: int
    bowl: int | None
    instruction: str


def draw_layout(task: Task, rng: np.random.Generator, n_objects: int | None = None) -> Layout:
    """A random layout of `n_objects` (all that the task asks for if None)."""
    count = 1 + task.distractors if n_objects is None else n_objects
    pairs = [(color, shape) for color in dict.fromkeys(task.colors) for shape in dict.fromkeys(task.shapes)]
    chosen = [pairs[i] for i in rng.permutation(len(pairs))[:count]]
    spots = _draw_spots(rng, count, task.n_bowls)
    items = tuple(
        Item(shape, color, float(rng.uniform(*HALF_WIDTHS)), _vary(COLORS[color], rng), spot, float(rng.uniform(-np.pi, np.pi)))
        for (color, shape), spot in zip(chosen, spots[task.n_bowls:], strict=True)
    )
    bowl_colors = [list(BOWL_COLORS)[i] for i in rng.permutation(len(BOWL_COLORS))]
    bowls = tuple(Bowl(color, spot) for color, spot in zip(bowl_colors, spots[:task.n_bowls], strict=False))
    target = int(rng.integers(count))
    bowl = int(rng.integers(len(bowls))) if task.task == "place" else None
    return Layout(items, bowls, target, bowl, _instruct(task, items[target], bowls, bowl, rng))


def _instruct(task: Task, item: Item, bowls: tuple[Bowl, ...], bowl: int | None, rng: np.random.Generator) -> str:
    templates = PICK if task.task == "pick" else PLACE
    template = templates[int(rng.integers(len(templates)))] if task.paraphrase else templates[0]
    bowl_name = "bowl" if bowl is None or len(bowls) == 1 else f"{bowls[bowl].color} bowl"
    return template.format(object=item.name, bowl=bowl_name)


def _draw_spots(rng: np.random.Generator, count: int, n_bowls: int) -> list[tuple[float, float]]:
    """Positions for bowls, then for objects, each at its distance from all others."""
    radii = np.array([BOWL_SPACING - SPACING / 2] * n_bowls + [SPACING / 2] * count)
    insets = np.array([BOWL_INSET] * n_bowls + [0.0] * count)
    for gap in np.repeat(GAPS, 100):
        spots = np.empty((0, 2))
        for radius, inset in zip(radii, insets, strict=True):
            candidates = rng.uniform(AREA_LOW + inset, AREA_HIGH - inset, (60, 2))
            distances = np.linalg.norm(candidates[:, None] - spots, axis=2)
            free = (distances >= gap * (radius + radii[:len(spots)])).all(1)
            if not free.any():
                break
            spots = np.vstack([spots, candidates[free.argmax()]])
        else:
            return [(float(x), float(y)) for x, y in spots]
    raise UserError("tabletop layout", f"{count} objects and {n_bowls} bowls do not fit on the table",
                    f"{GAPS[-1] * SPACING:.2f} m between objects", "ask for fewer distractors or bowls")


def _vary(rgb: tuple[float, float, float], rng: np.random.Generator) -> tuple[float, float, float]:
    """No two prints of a colour are alike."""
    red, green, blue = np.clip(np.array(rgb) * rng.uniform(0.88, 1.08) + rng.uniform(-0.03, 0.03, 3), 0, 1)
    return float(red), float(green), float(blue)

"""The clutter benchmark's recipes: `raw` with perception in front of it, nothing else changed.

`grounded` finds what the instruction names, paints everything else but the robot in one colour, and gives the policy the thing's place
as a token. `painted` estimates the background instead, so a new table stays; `grounded_depth` shows coloured depth as the paper does.
`masked` (no token) and `geometry` (depth of everything) are parts on their own.
"""

from __future__ import annotations

from typing import Any

from vla.recipe import Recipe
from vla.recipes.pick import raw

FIND: dict[str, Any] = {"kind": "object_centric", "threshold": 0.2, "first_looks": 2}
"""The threshold is the one that the embedded grounder's exam chose."""

HIDE: dict[str, Any] = {"kind": "masking", "fill": "constant", "color": (0.67, 0.6, 0.52)}
"""The median colour of the demonstrations' pictures: what the frozen eye takes for an empty table, whatever the table is."""


def grounded() -> Recipe:
    return seeing("grounded", FIND, HIDE, {"kind": "object_tokens"})


def painted() -> Recipe:
    return seeing("painted", FIND, {"kind": "masking", "fill": "inpaint"}, {"kind": "object_tokens"})


def grounded_depth() -> Recipe:
    return seeing("grounded_depth", FIND, {"kind": "geometric", "tokens": True})


def masked() -> Recipe:
    return seeing("masked", FIND, HIDE)


def geometry() -> Recipe:
    return seeing("geometry", {"kind": "geometric"})


def seeing(name: str, *perception: dict[str, Any]) -> Recipe:
    return Recipe.from_dict(raw().to_dict() | {"name": name, "perception": perception})


def seeing_no_pictures(name: str, *perception: dict[str, Any]) -> Recipe:
    """For lists that hide the pictures: the trunk was pretrained beside some, so all of it is tuned, and for longer."""
    plain = seeing(name, *perception).to_dict()
    return Recipe.from_dict(plain | {"tuning": plain["tuning"] | {"mode": "full"}, "train": plain["train"] | {"steps": 1200}})

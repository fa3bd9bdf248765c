"""Where things are, in words: in the robot's base frame, or in the picture.

The front is x and the left is y of the base frame (`robot_io.types`). In the picture a thing is in one of nine fields; objects crowd in
the middle of a table camera's view, so the middle fields are narrow.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

MIDDLE = (0.42, 0.58)
"""The middle column and row, as shares of the picture."""


def in_the_picture(mask: Bool[np.ndarray, "h w"]) -> str:
    """`at the upper left`, `in the middle`: where a mask's centre is."""
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    return field((columns.mean() + 0.5) / width, (rows.mean() + 0.5) / height)


def field(x: float, y: float) -> str:
    """The same for a point, as shares of the picture's width and height."""
    side = _third(x, "left", "right")
    level = _third(y, "upper", "lower")
    if not side and not level:
        return "in the middle"
    if not level:
        return f"on the {side}"
    return f"at the {level} {side or 'middle'}"


def in_the_base_frame(position: Float[np.ndarray, " 3"], unit: str) -> str:
    """`483 mm away, 121 mm left`."""
    ahead, left = (round(float(value) * {"mm": 1000, "cm": 100}[unit]) for value in position[:2])
    return f"{ahead} {unit} away, {abs(left)} {unit} {'left' if left >= 0 else 'right'}"


def _third(share: float, low: str, high: str) -> str:
    return low if share < MIDDLE[0] else high if share > MIDDLE[1] else ""

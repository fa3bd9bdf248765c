"""A room as the robot sees it: a small picture of flat shapes, enough for a captioner to have something to learn.

Furniture stands in two rows; a frame marks what the robot stands at; open containers show what is in them, closed ones their door; what is on
glows; the hand at the bottom shows what is held. Walls, floors and shades differ from house to house and a little from picture to picture.

Pictures are `uint8 [SIZE, SIZE, 3]`.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from robot_io.household.catalogue import CONTAINERS, DEVICES, ROOMS
from robot_io.household.world import Sight

SIZE = 128
SLOTS = ((5, 14), (67, 14), (5, 62), (67, 62))
"""Upper left corners of the four places for furniture."""
WIDTH, HEIGHT = 56, 40
DARK, GLOW, MARK = (30, 28, 32), (255, 232, 90), (250, 90, 200)

Box = tuple[float, float, float, float]
Color = tuple[int, int, int]

FURNITURE: dict[str, tuple[Color, str]] = {
    "table": ((170, 112, 60), "legs"), "counter": ((190, 190, 180), "tiles"), "desk": ((120, 82, 58), "drawers"),
    "sofa": ((70, 130, 90), "arms"), "bed": ((120, 140, 210), "cushion"), "shelf": ((150, 120, 80), "boards"),
    "sink": ((225, 235, 240), "basin"), "fridge": ((205, 215, 225), "door"), "cabinet": ((140, 90, 50), "doors"),
    "wardrobe": ((100, 60, 90), "doors"), "microwave": ((90, 92, 100), "window"), "washer": ((235, 235, 235), "round"),
    "tv": ((25, 25, 30), "screen"), "lamp": ((215, 190, 150), "shade"), "stove": ((60, 60, 66), "rings"), "radio": ((150, 60, 50), "speaker"),
}  # fmt: skip


def render(sight: Sight, layout: int = 0, seed: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """
    Args:
        layout: whose walls and floor.
        seed: of the little differences from picture to picture.
    """
    rng = np.random.default_rng((seed, layout, ROOMS.index(sight.room)))
    picture = Image.new("RGB", (SIZE, SIZE), _wall(layout, ROOMS.index(sight.room)))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 108, SIZE, SIZE), fill=_wall(layout + 11, ROOMS.index(sight.room), 0.5))
    for (x, y), (name, things) in zip(SLOTS, sight.contents.items(), strict=False):
        x, y = x + int(rng.integers(-2, 3)), y + int(rng.integers(-2, 3))
        _furniture(pen, name, (x, y, x + WIDTH, y + HEIGHT), name in sight.open, name in sight.on)
        for i, thing in enumerate(things):
            _thing(pen, thing, x + 8 + 13 * i, y + (HEIGHT - 9 if name in CONTAINERS else -1))
        if name == sight.near:
            pen.rectangle((x - 3, y - 4, x + WIDTH + 3, y + HEIGHT + 3), outline=MARK, width=2)
    pen.rectangle((54, 108, 74, 127), fill=(222, 184, 150))
    if sight.holding:
        _thing(pen, sight.holding, 64, 115, 8)
    shade = rng.uniform(0.85, 1.1) * np.asarray(picture, np.float32) + rng.normal(0, 3, (SIZE, SIZE, 1))
    return shade.clip(0, 255).astype(np.uint8)


def _wall(layout: int, room: int, value: float = 0.85) -> Color:
    """A muted colour: the room decides the hue, the house shifts it."""
    red, green, blue = colorsys.hsv_to_rgb((room / len(ROOMS) + 0.021 * layout) % 1, 0.22, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _furniture(pen: ImageDraw.ImageDraw, name: str, box: Box, is_open: bool, is_on: bool) -> None:
    color, detail = FURNITURE[name]
    x0, y0, x1, y1 = box
    pen.rectangle((x0, y0 + 4, x1, y1), fill=color, outline=DARK)
    if is_open:
        pen.rectangle((x0 + 3, y0 + 7, x1 - 3, y1 - 2), fill=DARK)
        pen.polygon(((x0, y0 + 4), (x0 - 4, y0 + 9), (x0 - 4, y1 - 4), (x0, y1)), fill=color, outline=DARK)
    else:
        DETAILS[detail](pen, box, GLOW if is_on else DARK)
    if name in DEVICES:
        pen.ellipse((x1 - 9, y0 + 6, x1 - 3, y0 + 12), fill=GLOW if is_on else (80, 20, 20), outline=DARK)


def _lines(pen: ImageDraw.ImageDraw, box: Box, columns: int, rows: int) -> None:
    x0, y0, x1, y1 = box
    for i in range(1, columns):
        pen.line((x0 + (x1 - x0) * i / columns, y0 + 14, x0 + (x1 - x0) * i / columns, y1), fill=DARK)
    for j in range(1, rows):
        y = y0 + 14 + (y1 - y0 - 14) * j / rows
        pen.line((x0, y, x1, y), fill=DARK)


def _shape(kind: str, dx0: float, dy0: float, dx1: float, dy1: float) -> Callable[[ImageDraw.ImageDraw, Box, Color], None]:
    """A rectangle or an ellipse inside the furniture's box, in the colour that says whether it is on."""

    def draw(pen: ImageDraw.ImageDraw, box: Box, color: Color) -> None:
        x0, y0, x1, y1 = box
        getattr(pen, kind)((x0 + dx0, y0 + dy0, x1 - dx1, y1 - dy1), fill=color, outline=(200, 200, 200))

    return draw


def _both(pen: ImageDraw.ImageDraw, box: Box, color: Color) -> None:
    _lines(pen, box, 2, 1)
    for dx in (-5, 5):
        x, y = (box[0] + box[2]) / 2 + dx, (box[1] + box[3]) / 2
        pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=(230, 200, 90))


def _rings(pen: ImageDraw.ImageDraw, box: Box, color: Color) -> None:
    for i in (0, 1):
        _shape("ellipse", 6 + 20 * i, 14, 36 - 20 * i, 8)(pen, box, color)


DETAILS: dict[str, Callable[[ImageDraw.ImageDraw, Box, Color], None]] = {
    "legs": _shape("rectangle", 8, 18, 8, 0), "tiles": lambda pen, box, _: _lines(pen, box, 5, 2),
    "drawers": lambda pen, box, _: _lines(pen, box, 3, 3), "arms": _shape("rectangle", 10, 16, 10, 6),
    "cushion": lambda pen, box, _: _shape("ellipse", 4, 14, 34, 6)(pen, box, (240, 240, 240)), "boards": lambda pen, box, _: _lines(pen, box, 1, 4),
    "basin": lambda pen, box, _: _shape("ellipse", 12, 16, 12, 4)(pen, box, (120, 180, 220)), "door": lambda pen, box, _: _lines(pen, box, 1, 2),
    "doors": _both, "window": _shape("rectangle", 6, 12, 18, 6), "round": _shape("ellipse", 14, 10, 14, 3),
    "screen": _shape("rectangle", 5, 9, 12, 6), "shade": _shape("ellipse", 16, 8, 16, 16), "rings": _rings,
    "speaker": _shape("ellipse", 6, 14, 28, 6),
}  # fmt: skip


def _thing(pen: ImageDraw.ImageDraw, name: str, x: float, y: float, r: float = 6) -> None:
    """A thing around a point."""
    whole = (x - r, y - r, x + r, y + r)
    if name == "apple":
        pen.ellipse(whole, fill=(210, 30, 40), outline=DARK)
        pen.line((x, y - r, x + 2, y - r - 3), fill=(20, 90, 20), width=2)
    elif name == "bread":
        pen.rounded_rectangle((x - r, y - r / 2, x + r, y + r), 3, fill=(200, 140, 60), outline=(110, 60, 20))
    elif name == "cup":
        pen.ellipse((x, y - r / 2, x + r + 1, y + r / 2), outline=(250, 160, 30), width=2)
        pen.rectangle((x - r / 2, y - r, x + r / 2, y + r), fill=(250, 160, 30), outline=DARK)
    elif name == "plate":
        pen.ellipse((x - r, y - r / 2, x + r, y + r / 2), fill=(250, 250, 250), outline=(60, 60, 200))
    elif name == "bottle":
        pen.rectangle((x - r / 2, y - r / 3, x + r / 2, y + r), fill=(20, 140, 60), outline=DARK)
        pen.rectangle((x - 1, y - r, x + 1, y), fill=(20, 140, 60))
    elif name == "book":
        pen.rectangle((x - r, y - r / 1.5, x + r, y + r), fill=(30, 60, 190), outline=(250, 250, 250))
        pen.line((x, y - r / 1.5, x, y + r), fill=(250, 250, 250))
    elif name == "phone":
        pen.rectangle((x - r / 2, y - r, x + r / 2, y + r), fill=(10, 10, 10), outline=(200, 200, 200))
        pen.rectangle((x - r / 3, y - r / 1.5, x + r / 3, y + r / 2), fill=(90, 220, 250))
    elif name == "towel":
        for i in range(4):
            pen.rectangle((x - r, y - r + 3 * i, x + r, y - r + 3 * i + 2), fill=(240, 110, 160) if i % 2 else (255, 240, 245))
    elif name == "shirt":
        pen.polygon(((x - r, y - r), (x + r, y - r), (x + r, y - r / 3), (x + r / 2, y - r / 3), (x + r / 2, y + r), (x - r / 2, y + r),
                     (x - r / 2, y - r / 3), (x - r, y - r / 3)), fill=(20, 170, 170), outline=DARK)
    else:  # pillow
        pen.rounded_rectangle((x - r, y - r / 1.5, x + r, y + r / 1.5), 4, fill=(190, 160, 240), outline=(90, 60, 140))

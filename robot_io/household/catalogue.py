"""What houses are made of: rooms, furniture, small things, and seven layouts.

Every piece of furniture and every thing occurs at most once in a house, so a name is never ambiguous. Layouts differ in which rooms there are
and in what stands where; the last two are kept from training.
"""

from __future__ import annotations

ROOMS = ("kitchen", "livingroom", "bedroom", "bathroom", "office")

SURFACES = ("table", "counter", "desk", "sofa", "bed", "shelf", "sink")
CONTAINERS = ("fridge", "cabinet", "wardrobe", "microwave", "washer")
DEVICES = ("tv", "lamp", "stove", "radio", "microwave", "washer")
FURNITURE = tuple(dict.fromkeys((*SURFACES, *CONTAINERS, *DEVICES)))

THINGS: dict[str, tuple[str, ...]] = {
    "apple": ("kitchen", "livingroom"),
    "bread": ("kitchen",),
    "cup": ("kitchen", "office"),
    "plate": ("kitchen", "livingroom"),
    "bottle": ("kitchen", "bathroom"),
    "book": ("livingroom", "office", "bedroom"),
    "phone": ("office", "bedroom"),
    "towel": ("bathroom",),
    "shirt": ("bedroom", "bathroom"),
    "pillow": ("bedroom", "livingroom"),
}
"""Each thing with the rooms where it usually is, likeliest first."""

HEATED = ("apple", "bread", "plate", "cup")
WASHED = ("towel", "shirt", "pillow")

Layout = dict[str, tuple[str, ...]]

LAYOUTS: tuple[Layout, ...] = (
    {"kitchen": ("counter", "fridge", "microwave", "stove"), "livingroom": ("sofa", "table", "tv", "radio"),
     "bedroom": ("bed", "wardrobe", "lamp"), "bathroom": ("sink", "washer", "cabinet"), "office": ("desk", "shelf")},
    {"kitchen": ("table", "fridge", "cabinet", "stove"), "livingroom": ("sofa", "shelf", "tv", "lamp"),
     "bedroom": ("bed", "wardrobe", "radio"), "bathroom": ("sink", "washer"), "office": ("desk", "counter", "microwave")},
    {"kitchen": ("counter", "table", "fridge", "washer"), "livingroom": ("sofa", "shelf", "tv"),
     "bedroom": ("bed", "wardrobe", "desk", "lamp"), "bathroom": ("sink", "cabinet", "radio")},
    {"kitchen": ("counter", "microwave", "stove", "cabinet"), "livingroom": ("table", "sofa", "radio", "lamp"),
     "bedroom": ("bed", "tv", "desk"), "bathroom": ("sink", "wardrobe", "washer"), "office": ("shelf", "fridge")},
    {"kitchen": ("counter", "fridge", "microwave", "radio"), "livingroom": ("sofa", "desk", "cabinet", "tv"),
     "bedroom": ("bed", "shelf", "wardrobe", "lamp"), "bathroom": ("sink", "washer", "stove")},
    {"kitchen": ("counter", "fridge", "stove", "washer"), "livingroom": ("table", "shelf", "tv", "wardrobe"),
     "bedroom": ("bed", "lamp", "cabinet"), "bathroom": ("sink", "radio"), "office": ("desk", "sofa", "microwave")},
    {"kitchen": ("table", "microwave", "fridge", "lamp"), "livingroom": ("sofa", "counter", "radio", "cabinet"),
     "bedroom": ("desk", "bed", "tv", "wardrobe"), "bathroom": ("sink", "shelf", "washer")},
)  # fmt: skip
TRAINING, UNSEEN = (0, 1, 2, 3, 4), (5, 6)
"""Layouts by number: those that demonstrations come from, and those that only tests show."""


def usual_room(furniture: str) -> tuple[str, ...]:
    """The rooms where a piece of furniture stands in the layouts of training, likeliest first; then the others."""
    counts = {room: sum(furniture in LAYOUTS[i].get(room, ()) for i in TRAINING) for room in ROOMS}
    return tuple(sorted(ROOMS, key=lambda room: -counts[room]))

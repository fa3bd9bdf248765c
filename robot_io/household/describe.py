"""A room in words: the summary that a perfect observer would give. Captioners learn to write it from pictures.

    kitchen; near the fridge; hand empty; counter: apple, cup; fridge open: bread; microwave closed; stove off
"""

from __future__ import annotations

from robot_io.household.catalogue import CONTAINERS, DEVICES
from robot_io.household.world import Sight


def describe(sight: Sight) -> str:
    said = [sight.room, f"near the {sight.near}" if sight.near else "near nothing", f"hand: {sight.holding}" if sight.holding else "hand empty"]
    for name, things in sight.contents.items():
        words = [name]
        if name in CONTAINERS:
            words.append("open" if name in sight.open else "closed")
        if name in DEVICES and (name not in CONTAINERS or name in sight.on):
            words.append("on" if name in sight.on else "off")
        said.append(" ".join(words) + (f": {', '.join(things)}" if things else ""))
    return "; ".join(said)

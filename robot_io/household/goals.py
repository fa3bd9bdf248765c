"""Goals: what is asked for, in words, and whether it has come about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from robot_io.household.catalogue import CONTAINERS, DEVICES, HEATED, SURFACES, WASHED

if TYPE_CHECKING:
    from robot_io.household.world import World


@dataclass(frozen=True)
class Goal:
    """
    Attributes:
        text: the instruction.
        thing, place: that the thing be in or on that furniture; empty if the goal is about a device alone.
        device, on: that the device be on or off; empty if it does not matter.
    """

    text: str
    thing: str = ""
    place: str = ""
    device: str = ""
    on: bool = True

    def reached(self, world: World) -> bool:
        placed = not self.thing or world.places.get(self.thing) == self.place
        return placed and (not self.device or (self.device in world.on) == self.on)


def draw(world: World, rng: np.random.Generator) -> Goal:
    """A goal that this house can fulfil and has not fulfilled yet."""
    furniture = [name for names in world.layout.values() for name in names]
    things = sorted(world.places)
    while True:
        kind = rng.choice(("put", "put", "put", "device", "machine"))
        if kind == "put":
            thing, place = str(rng.choice(things)), str(rng.choice([f for f in furniture if f in SURFACES or f in CONTAINERS]))
            goal = Goal(f"put the {thing} {'in' if place in CONTAINERS else 'on'} the {place}", thing, place)
        elif kind == "device":
            device = str(rng.choice([f for f in furniture if f in DEVICES and f not in CONTAINERS]))
            on = device not in world.on
            goal = Goal(f"switch {'on' if on else 'off'} the {device}", device=device, on=on)
        else:
            machine, washes = (("microwave", HEATED), ("washer", WASHED))[int(rng.integers(2))]
            able = [thing for thing in things if thing in washes]
            if machine not in furniture or not able:
                continue
            thing = str(rng.choice(able))
            goal = Goal(f"{'heat' if machine == 'microwave' else 'wash'} the {thing}", thing, machine, machine)
        if not goal.reached(world):
            return goal

"""The household as it stands: who is where, what is open, on and held; skills with their preconditions; what can be seen.

Deterministic: a layout and a seed give the same things in the same places and the same goal. The robot sees the room it is in: what lies on
its furniture, and what is in containers that stand open. It holds one thing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot_io.errors import UserError
from robot_io.household.catalogue import CONTAINERS, DEVICES, LAYOUTS, ROOMS, SURFACES, THINGS, Layout
from robot_io.household.goals import Goal, draw
from robot_io.household.skills import Skill

PRESENT = 6
"""Things in a house, out of all there are."""
ROOM, CROWDED = 4, 2
"""A surface or a container holds so many things, and begins with at most so many."""
USUAL = 0.7
"""Chance that a thing is in one of its usual rooms."""
LIMIT = 30
"""Steps of an episode."""


@dataclass(frozen=True)
class Sight:
    """What the robot sees.

    Attributes:
        room: where it is.
        near: the furniture it stands at, or empty.
        holding: what it holds, or empty.
        contents: furniture of the room, in order, with the things seen there; an empty tuple for a closed container.
        open, on: which of it stands open, is switched on.
    """

    room: str
    near: str
    holding: str
    contents: dict[str, tuple[str, ...]]
    open: frozenset[str]
    on: frozenset[str]


class World:
    """A house, a robot in it, and a goal."""

    def __init__(self, layout: int, seed: int) -> None:
        """
        Raises:
            UserError: there is no such layout.
        """
        if not 0 <= layout < len(LAYOUTS):
            raise UserError(f"household layout {layout}", "there is none", f"0 to {len(LAYOUTS) - 1}", "choose one of them")
        rng = np.random.default_rng((layout, seed))
        self.number, self.seed = layout, seed
        self.layout: Layout = LAYOUTS[layout]
        self.where = {name: room for room, names in self.layout.items() for name in names}
        self.rooms = tuple(room for room in ROOMS if room in self.layout)
        self.room, self.near, self.holding, self.steps = str(rng.choice(self.rooms)), "", "", 0
        self.open = {name for name in self.where if name in CONTAINERS and rng.random() < 0.25}
        self.on = {name for name in self.where if name in DEVICES and name not in CONTAINERS and rng.random() < 0.3}
        self.places: dict[str, str] = {}
        for thing in sorted(rng.permutation(sorted(THINGS))[:PRESENT]):
            self.places[str(thing)] = self._some_place(str(thing), rng)
        self.goal: Goal = draw(self, rng)

    def _some_place(self, thing: str, rng: np.random.Generator) -> str:
        taken = list(self.places.values())
        free = [name for name in self.where if (name in SURFACES or name in CONTAINERS) and taken.count(name) < CROWDED]
        usual = [name for name in free if self.where[name] in THINGS[thing]]
        return str(rng.choice(usual if usual and rng.random() < USUAL else free))

    # What can be seen and asked ------------------------------------------------------------------------------

    def sees(self, name: str) -> bool:
        """Whether a thing lies open to view in this room."""
        place = self.places.get(name)
        return place is not None and self.where[place] == self.room and (place not in CONTAINERS or place in self.open)

    def sight(self) -> Sight:
        furniture = self.layout[self.room]
        contents = {name: tuple(sorted(t for t, place in self.places.items() if place == name and self.sees(t))) for name in furniture}
        return Sight(self.room, self.near, self.holding, contents, frozenset(self.open & set(furniture)), frozenset(self.on & set(furniture)))

    @property
    def reached(self) -> bool:
        return self.goal.reached(self)

    @property
    def done(self) -> bool:
        return self.reached or self.steps >= LIMIT

    def obstacle(self, skill: Skill) -> str:
        """Why a skill cannot be carried out now; empty if it can."""
        verb, name, other = skill.verb, skill.names[0], skill.names[-1]
        if verb == "walk":
            return "" if name in self.layout or self.where.get(name) == self.room else f"there is no {name} here"
        if verb == "grab":
            if self.holding:
                return f"the hand holds the {self.holding}"
            return "" if self.sees(name) and self.places[name] == self.near else f"the {name} is not within reach"
        if other != self.near:
            return f"the {other} is not within reach"
        if verb in ("putin", "puton"):
            if self.holding != name:
                return f"the hand does not hold the {name}"
            if list(self.places.values()).count(other) >= ROOM:
                return f"the {other} is full"
            return "" if verb == "puton" or other in self.open else f"the {other} is closed"
        if verb in ("open", "close"):
            return "" if (other in self.open) == (verb == "close") else f"the {other} is {'open' if verb == 'open' else 'closed'} already"
        if (other in self.on) == (verb == "switchon"):
            return f"the {other} is {'on' if verb == 'switchon' else 'off'} already"
        return f"the {other} is open" if verb == "switchon" and other in self.open else ""

    # What can be done ----------------------------------------------------------------------------------------

    def act(self, skill: Skill) -> str:
        """Carry out a skill; why not, if it cannot be (nothing changes then but the time). Empty if it was."""
        self.steps += 1
        if why := self.obstacle(skill):
            return why
        verb, name, other = skill.verb, skill.names[0], skill.names[-1]
        if verb == "walk":
            self.room, self.near = (name, "") if name in self.layout else (self.room, name)
        elif verb == "grab":
            self.holding = name
            del self.places[name]
        elif verb in ("putin", "puton"):
            self.places[name], self.holding = other, ""
        elif verb in ("open", "close"):
            (self.open.add if verb == "open" else self.open.discard)(other)
        else:
            (self.on.add if verb == "switchon" else self.on.discard)(other)
        return ""

"""A scripted expert that knows no more than it has seen: it searches rooms in a sensible order, opens what may hide the thing, and acts.

It can be asked at any state, also one that another policy has got into, so that it can say at every step what it would have done.
"""

from __future__ import annotations

from robot_io.household.catalogue import CONTAINERS, ROOMS, SURFACES, THINGS, usual_room
from robot_io.household.skills import Skill
from robot_io.household.world import ROOM, World


class Expert:
    """Watches one episode (`watch` at every step) and says what to do next (`decide`)."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.furniture: dict[str, str] = {}
        self.things: dict[str, str] = {}
        self.visited: list[str] = []
        self.watch()

    def watch(self) -> None:
        """Take in what can be seen now."""
        sight = self.world.sight()
        if sight.room not in self.visited:
            self.visited.append(sight.room)
        self.furniture |= dict.fromkeys(sight.contents, sight.room)
        seen = [name for name in sight.contents if name not in CONTAINERS or name in sight.open]
        gone = [thing for thing, place in self.things.items() if place in seen]
        for thing in gone:
            del self.things[thing]
        self.things |= {thing: name for name, things in sight.contents.items() for thing in things}

    def decide(self) -> Skill:
        """The next skill towards the goal. Always executable."""
        world, goal = self.world, self.world.goal
        if goal.thing and world.holding != goal.thing and not self._placed():
            if world.holding:
                return self._put_down()
            if goal.thing not in self.things:
                return self._search(THINGS[goal.thing], goal.thing)
            place = self.things[goal.thing]
            if world.near == place and place in CONTAINERS and place not in world.open:
                return Skill("open", (place,))
            return self._at(place) or Skill("grab", (goal.thing,))
        target = goal.device if self._placed() else goal.place
        if target not in self.furniture:
            return self._search(usual_room(target))
        if there := self._at(target):
            return there
        if not self._placed():
            if target in CONTAINERS and target not in world.open:
                return Skill("open", (target,))
            return Skill("putin" if target in CONTAINERS else "puton", (goal.thing, target))
        if goal.on and target in world.open:
            return Skill("close", (target,))
        return Skill("switchon" if goal.on else "switchoff", (target,))

    def _placed(self) -> bool:
        """The thing, if the goal is about one, is where it should be, as far as is known."""
        goal = self.world.goal
        return not goal.thing or (goal.thing in self.things and self.things[goal.thing] == goal.place)

    def _at(self, furniture: str) -> Skill | None:
        """The next step towards a known piece of furniture, None if there already."""
        if self.world.near == furniture:
            return None
        room = self.furniture[furniture]
        return Skill("walk", (furniture if self.world.room == room else room,))

    def _search(self, rooms: tuple[str, ...], thing: str = "") -> Skill:
        """Look for something not seen yet: first behind the closed doors of this room, then in the next room."""
        world = self.world
        hiding = [name for name in world.layout[world.room] if thing and name in CONTAINERS and name not in world.open]
        if hiding:
            return self._at(hiding[0]) or Skill("open", (hiding[0],))
        order = [room for room in (*rooms, *ROOMS) if room in world.rooms]
        fresh = [room for room in order if room not in self.visited]
        return Skill("walk", ((fresh or [room for room in order if room != world.room])[0],))

    def _put_down(self) -> Skill:
        """What is held is not what is wanted: onto a surface with room for it, of this room or else of one where there is."""
        world = self.world
        sight = world.sight()
        for name, things in sight.contents.items():
            if name in SURFACES and len(things) < ROOM:
                return self._at(name) or Skill("puton", (world.holding, name))
        return self._search(ROOMS)

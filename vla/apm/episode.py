"""One episode as the model meets it: a world, what is remembered of it, and the prompt that comes of both.

    goal: put the cup on the desk; been: bedroom, kitchen; before: [open] <fridge> done; see: kitchen; near the fridge; …

The summary is only of what can be seen now. Rooms that were visited and the last action (and whether it could be carried out) are remembered in
the prompt: without them nobody can search a house.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from robot_io.household.expert import Expert
from robot_io.household.skills import Skill
from robot_io.household.world import World


@dataclass
class Episode:
    """
    Attributes:
        actions, executed: what was tried at every step, and whether it could be carried out.
        reached: whether the goal has been.
    """

    world: World
    been: list[str] = field(default_factory=list)
    actions: list[Skill] = field(default_factory=list)
    executed: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.been.append(self.world.room)

    @property
    def done(self) -> bool:
        return self.world.done

    @property
    def reached(self) -> bool:
        return self.world.reached

    def act(self, skill: Skill) -> bool:
        """Try a skill; whether it could be carried out."""
        self.executed.append(not self.world.act(skill))
        self.actions.append(skill)
        if self.world.room not in self.been:
            self.been.append(self.world.room)
        return self.executed[-1]

    def prompt(self, summary: str) -> str:
        """What the model reads; `summary` may be empty."""
        before = f"{self.actions[-1]} {'done' if self.executed[-1] else 'failed'}" if self.actions else "nothing"
        seen = f"; see: {summary}" if summary else ""
        return f"goal: {self.world.goal.text}; been: {', '.join(self.been)}; before: {before}{seen}"


def demonstrate(layout: int, seed: int) -> list[tuple[Episode, Skill]]:
    """The expert's episode: at every step the episode so far and what it does next."""
    world = World(layout, seed)
    episode, expert = Episode(world), Expert(world)
    steps = []
    while not episode.done:
        skill = expert.decide()
        steps.append((_snapshot(episode), skill))
        episode.act(skill)
        expert.watch()
    return steps


def _snapshot(episode: Episode) -> Episode:
    """The episode as it stands, no longer changed by what follows."""
    from copy import deepcopy

    return deepcopy(episode)

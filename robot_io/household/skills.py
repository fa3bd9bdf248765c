"""The grammar of executable skills: `[walk] <kitchen>`, `[grab] <apple>`, `[putin] <apple> <fridge>`, …

A grammar says what may be asked for anywhere; whether it can be carried out now is for the world's preconditions. As in VirtualHome
(Puig et al., arXiv 1806.07011), a skill is a verb and the names of one or two things.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from itertools import product

from robot_io.errors import UserError, nearest
from robot_io.household.catalogue import CONTAINERS, DEVICES, FURNITURE, ROOMS, SURFACES, THINGS

ARGUMENTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "walk": ((*ROOMS, *FURNITURE),),
    "grab": (tuple(THINGS),),
    "open": (CONTAINERS,),
    "close": (CONTAINERS,),
    "putin": (tuple(THINGS), CONTAINERS),
    "puton": (tuple(THINGS), SURFACES),
    "switchon": (DEVICES,),
    "switchoff": (DEVICES,),
}
"""What each verb may be said of, argument by argument."""

PATTERN = re.compile(r"\[(?P<verb>\w+)\]\s*(?P<names>(?:<\w+>\s*)+)")


@dataclass(frozen=True)
class Skill:
    """A verb and the things it is done to."""

    verb: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join((f"[{self.verb}]", *(f"<{name}>" for name in self.names)))

    @property
    def object(self) -> str:
        """The thing that the verb is about."""
        return self.names[0]


@cache
def all_skills() -> tuple[Skill, ...]:
    """Every sentence of the grammar, always in the same order."""
    return tuple(Skill(verb, names) for verb, kinds in ARGUMENTS.items() for names in product(*kinds))


def parse(text: str) -> Skill:
    """The skill that `text` spells.

    Raises:
        UserError: it is no sentence of the grammar.
    """
    match = PATTERN.fullmatch(text.strip())
    if match is None:
        raise UserError(f"skill '{text}'", "is not of the form [verb] <thing>", "for example [grab] <apple>", "correct it")
    verb, names = match["verb"], tuple(re.findall(r"<(\w+)>", match["names"]))
    if verb not in ARGUMENTS:
        raise UserError(f"skill '{text}'", f"'{verb}' is no skill", "a known verb", nearest(verb, ARGUMENTS))
    kinds = ARGUMENTS[verb]
    if len(names) != len(kinds):
        raise UserError(f"skill '{text}'", f"{len(names)} things", f"{len(kinds)} for [{verb}]", "name as many")
    for name, kind in zip(names, kinds, strict=True):
        if name not in kind:
            raise UserError(f"skill '{text}'", f"[{verb}] cannot be done to '{name}'", "a thing it can be done to", nearest(name, kind))
    return Skill(verb, names)

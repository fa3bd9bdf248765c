"""An instruction → what to look for: the target, the container, what is excluded, and a spatial relation.

A small grammar over words, after the lists of names that OBEYED-VLA (arXiv 2512.22519) asks its grounder for. It takes an
instruction apart from the outside in: manners, exclusions ("not the blue one"), the verb, the container ("into the bowl"),
where the thing comes from ("off the table"), and the relation ("on the left"). What is left is the target's phrase. A
sentence of an unknown form falls back to its noun phrase: all that follows its first article, or all of it.

Left and right, near and far are meant as the first camera sees them (see `perception.grounding.relation`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

LEFT, RIGHT, MIDDLE, NEAREST, FARTHEST = "left", "right", "middle", "nearest", "farthest"
FRONT, BEHIND, NEXT = "in front of", "behind", "next to"


@dataclass(frozen=True)
class Relation:
    """Which of several is meant: the one that is most `name`, or that stands so to the `landmark` (a phrase)."""

    name: str
    landmark: str = ""


@dataclass(frozen=True)
class Goal:
    """What an instruction is about, in phrases without articles; an empty string where it names none."""

    target: str
    container: str = ""
    excluded: tuple[str, ...] = ()
    relation: Relation | None = None


MANNERS = re.compile(r"^(?:(?:please|now|then|first|next|ok|okay|robot|kindly)\b[\s,]*"
                     r"|(?:can|could|would|will) you\b\s*|i (?:want|need) you to\b\s*|(?:i'd|i would) like you to\b\s*)+")
TRAILING = re.compile(r"[\s,]*\b(?:please|now|for me|thanks|thank you)$")
ARTICLE = re.compile(r"\b(?:the|a|an|that|this|my|your|some)\s+")

# Verbs that only take, and verbs that also say where to: only after these does "in the …" name a container.
TAKING = ("pick up", "pick", "grasp", "grab", "lift up", "lift", "raise", "take", "get", "fetch", "hold", "clutch", "collect",
          "hand me", "give me", "bring me", "bring", "reach for", "find", "touch", "point at", "point to")
PUTTING = ("put", "place", "drop", "move", "set", "lay", "insert", "transfer", "deposit", "drag", "push", "carry", "toss", "stack",
           "pick and place", "pick up and place")
VERB = re.compile(rf"^({'|'.join(sorted(map(re.escape, TAKING + PUTTING), key=len, reverse=True))})\b\s*")
INTO = re.compile(r"\s+(?:down\s+)?(?:into|inside of|inside|onto|on top of|in to|on to|in|on|to)\s+(?!front|between)")
THEN_PUT = re.compile(rf"\s*,?\s+and\s+(?:then\s+)?(?:{'|'.join(PUTTING)})\s+(?:it|them)\b")
FROM = re.compile(r"(?<!farthest)(?<!furthest)(?<!away)\s+(?:up\s+)?(?:off(?: of)?|from|out of)\s+(?:the|a|an|this|that|my|your)\s+.+$")
RESTING = re.compile(r"\s+(?:that is |which is |lying |standing )?on (?:the|this) (?:table|desk|tabletop|counter)\b")

EXCLUDING = re.compile(r"[\s,]*\b(?:(?:but )?not|except(?: for)?|without touching|without|instead of|rather than"
                       r"|(?:and |but )?(?:ignore|ignoring|avoid|avoiding|leave|(?:do not|don't) (?:touch|take|move|pick up)))\s+"
                       r"(?P<what>(?:the|a|an|any|that|this)\s+.+)$")
ONE = re.compile(r"\bone$")

_PLACE = r"(?:that is |that's |which is |standing |lying )?"
EXTREMES = {
    LEFT: r"on (?:the|your) (?:far )?left(?: hand)?(?: side)?|to the left|at the left|furthest left",
    RIGHT: r"on (?:the|your) (?:far )?right(?: hand)?(?: side)?|to the right|at the right|furthest right",
    MIDDLE: r"in the (?:middle|cent(?:er|re))|at the cent(?:er|re)",
    NEAREST: r"(?:that is )?(?:the )?(?:nearest|closest)(?: to (?:you|me|us|the camera|the front))?|in (?:the )?front|at the front",
    FARTHEST: r"(?:that is )?(?:the )?(?:farthest|furthest)(?: away)?(?: from (?:you|me|us|the camera))?|(?:in|at) the back|behind",
}
AFTER = {name: re.compile(rf"\s+{_PLACE}(?:{pattern})$") for name, pattern in EXTREMES.items()}
BEFORE = {
    name: re.compile(rf"^(?:{words})\s+(?=\S)") for name, words in {
        LEFT: "leftmost|left-most|left hand|left", RIGHT: "rightmost|right-most|right hand|right", MIDDLE: "middle|center|centre|central",
        NEAREST: "nearest|closest|front", FARTHEST: "farthest|furthest|back|rear|most distant",
    }.items()
}
LANDMARK = [(name, re.compile(rf"\s+{_PLACE}(?:{pattern})\s+(?:the|a|an|that|this|my|your)\s+(?P<landmark>.+)$")) for name, pattern in (
    (LEFT, r"(?:on |to )?(?:the )?left (?:side )?of"), (RIGHT, r"(?:on |to )?(?:the )?right (?:side )?of"),
    (FRONT, r"in (?:the )?front of"), (BEHIND, r"behind|at the back of"),
    (FARTHEST, r"(?:farthest|furthest)(?: away)? from"), (NEXT, r"next to|beside|by|near|nearest(?: to)?|closest to|close to"),
)]


@lru_cache(maxsize=4096)
def parse(instruction: str) -> Goal:
    """See the module's text. Never fails; the target of an empty instruction is empty."""
    text = re.sub(r"\s+", " ", re.sub(r"[.!?;:\"]", " ", instruction.lower())).strip()
    text = TRAILING.sub("", MANNERS.sub("", text))
    text, excluded = _split_excluded(text)
    verb = VERB.match(text)
    if verb is None:
        return _finish(_noun_phrase(text), "", excluded)
    text, container = text[verb.end():], ""
    if (then := THEN_PUT.search(text)) is not None:
        text, container = text[:then.start()], INTO.sub("", text[then.end():], count=1)
    elif verb.group(1) in PUTTING:
        text, container = _split_container(text)
    text = FROM.sub("", re.sub(r"^(?:up|off|down)\s+", "", text))
    return _finish(re.sub(r"\s+(?:up|down|away)$", "", text), container, excluded)


def _finish(target: str, container: str, excluded: tuple[str, ...]) -> Goal:
    target, relation = _split_relation(RESTING.sub("", target))
    if not target and relation is not None:  # "the leftmost one"
        target = "object"
    return Goal(ONE.sub("object", target), _plain(container), excluded, relation)


def _split_container(text: str) -> tuple[str, str]:
    """`red cube in the bowl` → both; the last "in the …" that is no relation ("on the left", "in front of …")."""
    for match in reversed(list(INTO.finditer(text))):
        if match.start() and not any(pattern.search(text[match.start():]) for pattern in AFTER.values()):
            return text[:match.start()], text[match.end():]
    return text, ""


def _split_excluded(text: str) -> tuple[str, tuple[str, ...]]:
    if (match := EXCLUDING.search(text)) is None or not match.start():
        return text, ()
    names = [_plain(part) for part in re.split(r"\s*,\s*(?:and |or )?|\s+(?:and|or|nor)\s+", match.group("what"))]
    names = [re.sub(r"\s+(?:alone|aside)$", "", ONE.sub("object", name)) for name in names if name]
    return text[:match.start()], tuple(dict.fromkeys(names))


def _split_relation(text: str) -> tuple[str, Relation | None]:
    text = text.strip(" ,")
    for name, pattern in LANDMARK:
        if (match := pattern.search(text)) is not None and match.group("landmark") != "camera":
            return _plain(text[:match.start()]), Relation(name, _plain(match.group("landmark")))
    for name, pattern in AFTER.items():
        if (match := pattern.search(text)) is not None:
            return _plain(text[:match.start()]), Relation(name)
    text = _plain(text)
    for name, pattern in BEFORE.items():
        if (match := pattern.match(text)) is not None:
            return text[match.end():], Relation(name)
    return text, None


def _noun_phrase(text: str) -> str:
    article = ARTICLE.search(text)
    return text[article.end():] if article else text


def _plain(phrase: str) -> str:
    """Without its leading article and what surrounds it."""
    return ARTICLE.sub("", phrase.strip(" ,"), count=1).strip() if ARTICLE.match(phrase.strip(" ,")) else phrase.strip(" ,")

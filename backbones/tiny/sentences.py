"""What is true of a rendered scene, in words: its caption, and questions with their answers. No network, no randomness but the `rng`.

    caption   table "; the gripper " hand
    table     "nothing" | thing (" left of " thing)*      what lies on the table, from the robot's left to its right
    hand      "is empty" | "holds " thing
    thing     "a red cube" | "an orange ball" | …

A scene says of each pair of a colour and a shape at most one thing. Only what shows is told of or asked about: at least `SHOWN` pixels of
one view. Left is +y of the base frame and near is near its origin, so both are the robot's own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from backbones.tiny.scenes import EMPTY, HELD_OUT
from robot_io.tabletop.scene import COLORS, SHAPES

SHOWN = 12
"""Pixels of 96×96 that a thing must show in one view."""
MARGIN = 0.03
"""By how much, m, one thing must be further left or nearer than another before it is asked about."""
DESCRIBE = "what is on the table?"
"""What is asked for a caption."""
NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight")
PAIRS = tuple((colour, shape) for colour in COLORS for shape in SHAPES)
TAUGHT = tuple(pair for pair in PAIRS if pair not in HELD_OUT)

Pair = tuple[str, str]
Asked = tuple[str, str] | None
"""A question and its answer; None where the scene does not allow that question."""


@dataclass(frozen=True)
class Thing:
    """One thing that shows. `place` is its centre in the base frame, metres."""

    colour: str
    shape: str
    place: tuple[float, float, float]
    held: bool

    @property
    def pair(self) -> Pair:
        return self.colour, self.shape

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"


def things(scene: Mapping[str, np.ndarray]) -> list[Thing]:
    """What shows in one scene of `backbones.tiny.scenes`, from the robot's left to its right."""
    colours, shapes = list(COLORS), list(SHAPES)
    shown = scene["pixels"].sum(-1, dtype=int).max(0) >= SHOWN  # [M]
    found = [
        Thing(colours[colour], shapes[shape], tuple(map(float, place)), bool(held))
        for (colour, shape), place, held, shows in zip(scene["kinds"], scene["places"], scene["held"], shown, strict=True)
        if colour != EMPTY and shows
    ]
    return sorted(found, key=lambda thing: -thing.place[1])


def caption(there: Sequence[Thing]) -> str:
    """The one caption of these things, which are sorted as `things` sorts them."""
    table = " left of ".join(a(thing.name) for thing in there if not thing.held)
    hand = next((f"holds {a(thing.name)}" for thing in there if thing.held), "is empty")
    return f"{table or 'nothing'}; the gripper {hand}"


def a(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def ask_colour(there: Sequence[Thing], rng: np.random.Generator, pairs: Collection[Pair]) -> Asked:
    """"what colour is the ball?", of the only ball."""
    thing = _any([thing for thing in _told_by(there, "shape") if thing.pair in pairs], rng)
    return thing and (f"what colour is the {thing.shape}?", thing.colour)


def ask_shape(there: Sequence[Thing], rng: np.random.Generator, pairs: Collection[Pair]) -> Asked:
    """"what shape is the red object?", of the only red one."""
    thing = _any([thing for thing in _told_by(there, "colour") if thing.pair in pairs], rng)
    return thing and (f"what shape is the {thing.colour} object?", thing.shape)


def ask_count(there: Sequence[Thing], rng: np.random.Generator, pairs: Collection[Pair]) -> Asked:
    """"how many objects are there?", or cubes, or red objects; half of the latter are of a kind that is there."""
    if rng.random() < 0.5:
        return "how many objects are there?", NUMBERS[len(there)]
    thing = _any(there, rng) if rng.random() < 0.5 else None
    colour, shape = thing.pair if thing else PAIRS[rng.integers(len(PAIRS))]
    if rng.random() < 0.5:
        return f"how many {_plural(shape)} are there?", NUMBERS[sum(thing.shape == shape for thing in there)]
    return f"how many {colour} objects are there?", NUMBERS[sum(thing.colour == colour for thing in there)]


def ask_presence(there: Sequence[Thing], rng: np.random.Generator, pairs: Collection[Pair]) -> Asked:
    """"is there a green cross?", true half of the time. Where it is not, half of the time its colour and its shape are there apart."""
    present = {thing.pair for thing in there}
    if rng.random() < 0.5:
        pair, answer = _any(sorted(present & set(pairs)), rng), "yes"
    else:
        absent = [pair for pair in pairs if pair not in present]
        colours, shapes = {colour for colour, _ in present}, {shape for _, shape in present}
        apart = [pair for pair in absent if pair[0] in colours and pair[1] in shapes]
        pair, answer = _any(apart if apart and rng.random() < 0.5 else absent, rng), "no"
    return pair and (f"is there {a(' '.join(pair))}?", answer)


def ask_relation(there: Sequence[Thing], rng: np.random.Generator, pairs: Collection[Pair]) -> Asked:
    """"is the red cube left of the ball?", "is the ball nearer than the red cube?": a thing by its shape where that tells it."""
    of = _any([thing for thing in there if thing.pair in pairs], rng)
    sideways = rng.random() < 0.5

    def ahead(thing: Thing) -> float:
        """By how much `of` is further left, or nearer."""
        if sideways:
            return of.place[1] - thing.place[1]
        return float(np.hypot(*thing.place[:2]) - np.hypot(*of.place[:2]))

    other = of and _any([thing for thing in there if thing is not of and abs(ahead(thing)) >= MARGIN], rng)
    if not other:
        return None
    single = _told_by(there, "shape")
    left, right = (thing.shape if thing in single and rng.random() < 0.5 else thing.name for thing in (of, other))
    more = rng.random() < 0.5
    relation = {(True, True): "left of", (True, False): "right of", (False, True): "nearer than", (False, False): "farther than"}
    return f"is the {left} {relation[sideways, more]} the {right}?", "yes" if (ahead(other) > 0) == more else "no"


def ask_hand(there: Sequence[Thing], rng: np.random.Generator, pairs: Collection[Pair]) -> Asked:
    """"what is the gripper holding?": "nothing" or "a red cube"."""
    held = next((thing for thing in there if thing.held), None)
    if held is not None and held.pair not in pairs:
        return None
    return "what is the gripper holding?", a(held.name) if held else "nothing"


Ask = Callable[[Sequence[Thing], np.random.Generator, Collection[Pair]], Asked]
QUESTIONS: dict[str, Ask] = {
    "colour": ask_colour, "shape": ask_shape, "count": ask_count, "presence": ask_presence, "relation": ask_relation, "hand": ask_hand,
}  # fmt: skip
"""By kind. The third argument is the pairs that may be asked about (all that are taught, or the held-out ones in an exam)."""


def ask(there: Sequence[Thing], rng: np.random.Generator, kind: str, pairs: Collection[Pair] = TAUGHT) -> Asked:
    """A question of one kind."""
    return QUESTIONS[kind](there, rng, pairs)


def _told_by(there: Sequence[Thing], attribute: str) -> list[Thing]:
    """The things that no other shares its `attribute` with."""
    values = [getattr(thing, attribute) for thing in there]
    return [thing for thing, value in zip(there, values, strict=True) if values.count(value) == 1]


def _any(options: Sequence, rng: np.random.Generator):
    return options[rng.integers(len(options))] if options else None


def _plural(shape: str) -> str:
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"

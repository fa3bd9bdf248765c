"""Phrases → words that the grounder knows: "the grey bowl" → `("grey", "bowl")`.

The vocabulary is closed, and a word outside it is an error that lists what is known: a colour or a shape that was never taught must
not be guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from robot_io.errors import UserError, nearest

OBJECT, ROBOT = "object", "robot"
ALIASES = {
    "thing": OBJECT, "item": OBJECT, "objects": OBJECT, "gray": "grey", "violet": "purple", "sphere": "ball", "box": "cube",
    "cup": "mug", "donut": "ring", "container": "bowl", "dish": "bowl", "arm": ROBOT, "gripper": ROBOT, "manipulator": ROBOT,
    "hand": ROBOT,
}  # fmt: skip
FILLERS = {"the", "a", "an", "of"}


def parse(phrase: str, words: Sequence[str]) -> tuple[str, ...]:
    """The known words of a phrase, each once; `("robot",)` for anything that is the robot.

    Args:
        words: colours and shapes of the vocabulary.

    Raises:
        UserError: a word outside the vocabulary, or no word at all.
    """
    found = [ALIASES.get(word, word) for word in re.findall(r"[^\W\d_]+", phrase.lower()) if word not in FILLERS]
    known = {*words, OBJECT, ROBOT}
    for word in found:
        if word not in known:
            raise UserError(
                f"grounder phrase '{phrase}'",
                f"the word '{word}' was never taught to the embedded grounder",
                "a colour, a shape, 'object', 'bowl' or 'robot'",
                f"{nearest(word, known | ALIASES.keys())}; or use an open-vocabulary detector, e.g. kind: grounding_dino",
            )
    if not found:
        raise UserError(f"grounder phrase '{phrase}'", "it names nothing", "a phrase like 'red cube'", "name the thing")
    return (ROBOT,) if ROBOT in found else tuple(dict.fromkeys(found))

"""The clutter benchmark: named regimes, each a configuration of the tabletop robot.

After the four regimes of OBEYED-VLA (arXiv 2512.22519, section on generalisation): distractors, an absent target, another background,
clutter of unseen objects; and relational instructions. Everything is trained on `TRAINING` alone: one object, nothing else. The same
seed is the same objects, places and instruction under every background, so `clean` and the background regimes are paired scene by scene.

    robot = TabletopRobot(**REGIMES["distractors 5"])
"""

from __future__ import annotations

from typing import Any

from robot_io.errors import UserError, nearest

Options = dict[str, Any]

TRAINING: Options = {"task": {"distractors": 0, "pairs": "seen"}}
"""What demonstrations are recorded on: a single object on the plain table, of a pair that is not held out."""


def _task(**changes: Any) -> Options:
    return {"task": TRAINING["task"] | changes}


REGIMES: dict[str, Options] = {
    "clean": TRAINING,
    "distractors 1": _task(distractors=1),
    "distractors 3": _task(distractors=3),
    "distractors 5": _task(distractors=5),
    "distractors 7": _task(distractors=7),
    "absent": _task(absent=True),
    "absent in clutter": _task(absent=True, distractors=4),
    "background table": TRAINING | {"background": "table"},
    "background backdrop": TRAINING | {"background": "backdrop"},
    "background lighting": TRAINING | {"background": "lighting"},
    "background all": TRAINING | {"background": "all"},
    "camera": TRAINING | {"camera_shift": 0.04},
    "held-out pair": _task(pairs="held_out"),
    "unseen clutter": _task(pairs="held_out", clutter="unseen", distractors=5),
    "relational": _task(relation=True, distractors=2),
}
"""By name, in the order of the tables. `absent` shows one object and asks for another; `held-out pair` is `unseen clutter` without the
clutter, so that the two together say which of them is hard."""

HEADLINE = ("clean", "distractors 1", "distractors 3", "distractors 5", "distractors 7", "absent", "background all", "unseen clutter")
"""The regimes of the main table."""


def distractors_of(regime: str) -> int | None:
    """The number of distractors, if the regime is one of those that differ in nothing else."""
    if regime == "clean":
        return 0
    words = regime.split()
    return int(words[1]) if words[0] == "distractors" else None


def options(regime: str) -> Options:
    """The robot's options in a regime.

    Raises:
        UserError: there is no such regime.
    """
    if regime not in REGIMES:
        raise UserError(f"regime '{regime}'", "not known", f"one of the benchmark's: {nearest(regime, REGIMES)}", f"name one of {', '.join(REGIMES)}")
    return REGIMES[regime]

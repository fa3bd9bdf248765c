"""Which scenes are for what. A seed fixes a scene, so these ranges keep what is tested apart from what was learnt.

Demonstrations are recorded on `demonstrations`, choices (which checkpoint, how many steps to execute) are made on
`validation`, and numbers that are reported come from `test`. Everybody who evaluates on the first n test seeds
evaluates on the same scenes, so that policies can be compared pair by pair.
"""

from __future__ import annotations

from robot_io import UserError
from robot_io.errors import nearest

SPLITS = {
    "demonstrations": range(10_000),
    "validation": range(10_000, 20_000),
    "test": range(20_000, 30_000),
}


def seeds(split: str, n: int) -> range:
    """The first `n` seeds of a split."""
    if split not in SPLITS:
        raise UserError(f"seeds '{split}'", "not a split", f"one of them: {nearest(split, SPLITS)}", "name one of them")
    if not 1 <= n <= len(SPLITS[split]):
        raise UserError("trials", f"{n}", f"1 to {len(SPLITS[split])}, the seeds set aside for '{split}'", "ask for fewer")
    return SPLITS[split][:n]

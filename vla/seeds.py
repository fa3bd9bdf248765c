"""One seed out of several numbers, so that every random draw is a pure function of where in a run it happens."""

from __future__ import annotations

import numpy as np


def mix(*numbers: int) -> int:
    """A 63-bit seed; different arguments, unrelated seeds. Independent of platform and version."""
    high, low = np.random.SeedSequence((len(numbers), *numbers)).generate_state(2)  # it takes (1,) and (1, 0) for the same
    return (int(high) << 32 | int(low)) >> 1

"""Maps of one picture → its things: pixels that vote for the same centre belong together.

Greedy: of the pixels that belong to nothing yet, take the one nearest to its own centre; all pixels of the same kind whose votes
fall close to its vote are its thing. Touching and overlapping things come apart, and one thing that the arm cuts in two stays one.

Shapes: H×W pixels of the picture, T things.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

REACH = 0.5
"""How far a vote may be from the centre, in sizes of the thing."""
SMALLEST_SHARE, SMALLEST_PIXELS = 0.2, 8
"""Groups with fewer pixels than this share of the size that they claim, or than this number, are dropped."""


def group(
    kind: Int[np.ndarray, "h w"],
    votes: Float[np.ndarray, "2 h w"],
    size: Float[np.ndarray, "h w"],
    off: Float[np.ndarray, "h w"],
    wanted: tuple[int, ...],
) -> Bool[np.ndarray, "t h w"]:
    """Masks of the things of the `wanted` kinds.

    Args:
        kind: of each pixel.
        votes: x and y of the centre that each pixel votes for, in pixels.
        size: of the thing that each pixel belongs to, in pixels.
        off: distance of each pixel from the centre that it votes for, in sizes.
    """
    masks = []
    for which in wanted:
        rows, columns = np.nonzero(kind == which)
        vote, reach, distance = votes[:, rows, columns], size[rows, columns], off[rows, columns].copy()
        while len(rows):
            seed = distance.argmin()
            centre = vote[:, seed]
            for _ in range(2):  # the seed's vote first, then the median of those that agree with it
                near = np.hypot(*(vote - centre[:, None])) < REACH * reach[seed]
                centre = np.median(vote[:, near], 1) if near.any() else centre
            near[seed] = True
            if near.sum() >= max(SMALLEST_PIXELS, SMALLEST_SHARE * reach[seed] ** 2):
                mask = np.zeros(kind.shape, bool)
                mask[rows[near], columns[near]] = True
                masks.append(mask)
            left = ~near
            rows, columns, vote, reach, distance = rows[left], columns[left], vote[:, left], reach[left], distance[left]
    return np.array(masks, bool).reshape(-1, *kind.shape)

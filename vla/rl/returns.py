"""Chunk returns: what every prefix of a recorded chunk earned, and where its value goes on from.

For frame t and prefix length i = 1 … T (CO-RFT, arXiv 2508.02219, eq. 5 and 6, with the self-consistent target of each prefix):

    target_i = r_t + γ r_{t+1} + … + γ^{i-1} r_{t+i-1}  +  γ^i V(s_{t+i})     `earned` + `discount` · V[`next`]

An episode's end is terminal: a prefix that reaches it has no V, one that would cross it is not `valid`. Whoever counts those all the same,
with any actions past the end, says that nothing is earned there: `earned` and `discount` are as for the prefix that ends with the episode.

Shapes: N frames of all episodes in a row, T = horizon.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True)
class Returns:
    """Per frame t and prefix i; `next` is t + i where that is a frame of the episode, else any frame (`discount` is 0 there)."""

    earned: Float[np.ndarray, "n t"]
    discount: Float[np.ndarray, "n t"]
    next: Int[np.ndarray, "n t"]
    valid: Bool[np.ndarray, "n t"]

    def cut(self, prefixes: int, backup: int | None) -> Returns:
        """Only the first `prefixes`; with `backup`, each of them given the return of that many steps, or of all up to the end."""
        if backup is not None:
            last = np.minimum(self.valid.sum(1), backup)[:, None] - 1
            spread = [np.repeat(np.take_along_axis(values, last, 1), values.shape[1], 1)
                      for values in (self.earned, self.discount, self.next)]
            return Returns(*spread, self.valid).cut(prefixes, None)
        return Returns(*(values[:, :prefixes] for values in (self.earned, self.discount, self.next, self.valid)))


def prefix_returns(reward: Float[np.ndarray, " n"], stop: Int[np.ndarray, " n"], horizon: int, gamma: float) -> Returns:
    """
    Args:
        reward: of the action taken at each frame.
        stop: first frame after the end of each frame's episode.
    """
    frames = np.arange(len(reward))
    steps = frames[:, None] + np.arange(1, horizon + 1)
    valid = steps <= stop[:, None]
    taken = np.where(valid, reward[np.minimum(steps - 1, len(reward) - 1)], 0.0)
    earned = np.cumsum(taken * gamma ** np.arange(horizon), 1)
    inside = steps < stop[:, None]
    discount = np.where(inside, gamma ** np.arange(1, horizon + 1), 0.0)
    return Returns(earned.astype(np.float32), discount.astype(np.float32), np.where(inside, steps, 0), valid)


def monte_carlo(reward: Float[np.ndarray, " n"], stop: Int[np.ndarray, " n"], gamma: float) -> Float[np.ndarray, " n"]:
    """The discounted return from each frame to its episode's end."""
    total = np.zeros(len(reward), np.float64)
    for t in reversed(range(len(reward))):
        total[t] = reward[t] + (gamma * total[t + 1] if t + 1 < stop[t] else 0.0)
    return total.astype(np.float32)

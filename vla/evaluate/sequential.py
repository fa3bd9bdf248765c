"""Stop as soon as the answer is clear, without paying for having looked: a sequential test of two policies on the same seeds.

Looking at an ordinary test after every trial finds a difference between equal policies far more often than 5 % of the time. Here the
evidence is an e-value, a martingale under the null: it exceeds 1/α at any time with a chance of at most α (Ville's inequality;
Ramdas et al., "Game-theoretic statistics and safe anytime-valid inference", arXiv 2210.01948). One may look as often as one likes,
stop whenever, and go on later.

Only pairs that disagree speak. If the policies are equally good, each such pair favours either with probability ½; against that stands the
average over all other probabilities (a Beta(½, ½) mixture):

    e(k of m) = B(k + ½, m - k + ½) / B(½, ½) · 2^m
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betaln


@dataclass
class PairedTest:
    """Fed pair after pair; `decision` is None until the evidence suffices, and stays what it became.

    Attributes:
        alpha: chance of ever calling equally good policies different.
    """

    alpha: float = 0.05
    pairs: int = 0
    a_only: int = 0
    b_only: int = 0
    decision: str | None = None

    def add(self, a: bool, b: bool) -> str | None:
        """One seed's outcome for both. Returns `decision`: 'a' or 'b' for the better one, None while that is open."""
        self.pairs += 1
        self.a_only += a and not b
        self.b_only += b and not a
        if self.decision is None and self.evidence >= 1 / self.alpha:
            self.decision = "a" if self.a_only > self.b_only else "b"
        return self.decision

    @property
    def evidence(self) -> float:
        """The e-value: how many times better than "equally good" the outcomes so far are foretold by "not equally good"."""
        return float(np.exp(log_evidence(self.a_only, self.b_only)))


def log_evidence(a_only: np.ndarray | int, b_only: np.ndarray | int) -> np.ndarray:
    return betaln(np.add(a_only, 0.5), np.add(b_only, 0.5)) - betaln(0.5, 0.5) + np.add(a_only, b_only) * np.log(2)

"""How sure a success rate is, and whether one policy is better than another on the same scenes.

Everything is scipy's: Wilson and Clopper-Pearson intervals from `binomtest`, Jeffreys' interval from the Beta posterior
(Brown, Cai & DasGupta 2001 compare the three), and McNemar's exact test for paired trials. Wilson is the default: it
needs no prior, is never empty at 0 of n or n of n, and covers 95 % on average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from scipy.stats import beta, binomtest, bootstrap

from robot_io import UserError

Method = Literal["wilson", "jeffreys", "clopper-pearson"]


@dataclass(frozen=True)
class Rate:
    """A mean with its interval: `mean` in [`low`, `high`], from `n` trials."""

    mean: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float | int]:
        return asdict(self)


def percent(share: Rate) -> str:
    """`92.0 % [85.0, 95.9]`."""
    return f"{100 * share.mean:.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def rate(successes: int, n: int, *, method: Method = "wilson", level: float = 0.95) -> Rate:
    """The success probability behind `successes` of `n` independent trials."""
    if n == 0:
        return Rate(float("nan"), 0.0, 1.0, 0)
    if method == "jeffreys":
        low, high = beta.interval(level, successes + 0.5, n - successes + 0.5)
        low, high = (0.0 if successes == 0 else low), (1.0 if successes == n else high)
    else:
        interval = binomtest(successes, n).proportion_ci(level, {"wilson": "wilson", "clopper-pearson": "exact"}[method])
        low, high = interval.low, interval.high
    return Rate(successes / n, float(low), float(high), n)


def rate_of(flags: Sequence[bool], *, method: Method = "wilson", level: float = 0.95) -> Rate:
    return rate(int(np.sum(flags)), len(flags), method=method, level=level)


def mean_of(values: Sequence[float], *, level: float = 0.95) -> Rate:
    """The mean of a measured quantity (seconds, milliseconds) with its bias-corrected bootstrap interval."""
    values = np.asarray(values, float)
    if len(values) < 2 or np.ptp(values) == 0:
        mean = float(values.mean()) if len(values) else float("nan")
        return Rate(mean, mean, mean, len(values))
    interval = bootstrap((values,), np.mean, confidence_level=level, rng=np.random.default_rng(0)).confidence_interval
    return Rate(float(values.mean()), float(interval.low), float(interval.high), len(values))


@dataclass(frozen=True)
class Comparison:
    """Two policies on the same seeds.

    Attributes:
        both, a_only, b_only, neither: seeds by who succeeded.
        difference: success rate of A minus that of B.
        p_value: McNemar's exact test, two-sided: how often equally good policies would differ at least this much.
    """

    both: int
    a_only: int
    b_only: int
    neither: int
    difference: float
    p_value: float


def compare(a: Mapping[int, bool], b: Mapping[int, bool]) -> Comparison:
    """Compare success by seed. Only pairs that disagree say anything about which policy is better.

    Raises:
        UserError: the two did not run the same seeds.
    """
    if a.keys() != b.keys() or not a:
        missing = sorted(a.keys() ^ b.keys())
        raise UserError("comparison", f"{len(missing)} seeds were run by one policy only, e.g. {missing[:5]}",
                        "the same seeds for both", "evaluate both policies on the same seeds")
    table = np.zeros((2, 2), int)
    for seed in a:
        table[int(a[seed]), int(b[seed])] += 1
    (neither, b_only), (a_only, both) = table.tolist()
    disagree = a_only + b_only
    p_value = binomtest(a_only, disagree, 0.5).pvalue if disagree else 1.0
    return Comparison(both, a_only, b_only, neither, (a_only - b_only) / len(a), float(p_value))

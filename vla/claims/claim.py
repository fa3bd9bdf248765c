"""One claim: what was published, which two cells of which table it compares here, and what their trials say.

The verdict comes from the 95 % interval of the difference of two measured values, made of their own intervals (Newcombe 1998, "Interval
estimation for the difference between independent proportions", method 10; the same construction serves means: Zou & Donner 2008). Cells run
the same scenes, which makes this interval too wide rather than too narrow: an "undecided" may be decided by the pairs themselves
(`vla compare`).

    holds          the whole interval lies beyond `margin` on the published side
    does not       the whole interval lies on the other side of it
    undecided      the interval holds both; or nothing could have failed: who succeeds in 5 % cannot lose 10 points
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from robot_io import UserError
from vla.results import SHARES, Row, load_rows

Verdict = Literal["holds", "does not", "undecided", "not measured"]


@dataclass(frozen=True)
class Claim:
    """A published ordering and where it is tested.

    Attributes:
        id: as in the specifications (`M1`).
        source: the paper and where in it.
        statement: what it says, in one sentence.
        table: name of the file in `docs/results`.
        more, less: factor → level: the cell that should have more of `metric`, and the one that should have less. Factors not named
            may have any level, but one row must remain.
        metric: a column of the table.
        margin: by how much `more` must exceed `less`. Negative for "not worse by more than".
        ratio: `more` is compared with `ratio` times `less` ("keeps 70 % of").
        setting: what is different here from the paper.
        bound: instead of `less`, a number that `more` must reach.
    """

    id: str
    source: str
    statement: str
    table: str
    more: Mapping[str, str]
    less: Mapping[str, str] | None = None
    metric: str = "success"
    margin: float = 0.0
    ratio: float = 1.0
    setting: str = ""
    bound: float | None = None

    def __post_init__(self) -> None:
        if (self.less is None) == (self.bound is None):
            raise ValueError(f"claim {self.id}: name either a second cell or a bound")


@dataclass(frozen=True)
class Finding:
    """What the rows say about a claim. `low` and `high` bound `more - ratio · less`; None if a cell is missing."""

    claim: Claim
    verdict: Verdict
    more: Row | None = None
    less: Row | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None


def judge(claim: Claim, results: Path) -> Finding:
    """Look a claim up in the tables.

    Raises:
        UserError: its description fits several rows.
    """
    path = results / f"{claim.table}.json"
    rows = [row for row in load_rows(path) if row["metric"] == claim.metric] if path.is_file() else []
    more = _find(rows, claim.more, claim)
    less = {"mean": claim.bound, "low": claim.bound, "high": claim.bound} if claim.less is None else _find(rows, claim.less, claim)
    if more is None or less is None:
        return Finding(claim, "not measured", more, None if claim.less is None else less)
    difference, low, high = apart(more, less, claim.ratio)
    verdict: Verdict = "holds" if low > claim.margin else "does not" if high < claim.margin else "undecided"
    if verdict == "holds" and claim.margin < 0 and claim.metric in SHARES and claim.ratio * less["low"] <= -claim.margin:
        verdict = "undecided"
    return Finding(claim, verdict, more, None if claim.less is None else less, difference, low, high)


def apart(more: Row, less: Row, ratio: float = 1.0) -> tuple[float, float, float]:
    """`more - ratio · less` with its interval."""
    difference = more["mean"] - ratio * less["mean"]
    below = math.hypot(more["mean"] - more["low"], ratio * (less["high"] - less["mean"]))
    above = math.hypot(more["high"] - more["mean"], ratio * (less["mean"] - less["low"]))
    return difference, difference - below, difference + above


def _find(rows: Sequence[Row], wanted: Mapping[str, str], claim: Claim) -> Row | None:
    found = [row for row in rows if all(str(row["cell"].get(factor)) == level for factor, level in wanted.items())]
    if len(found) > 1:
        raise UserError(f"claim {claim.id}", f"{dict(wanted)} fits {len(found)} rows of {claim.table}.json", "one row",
                        "name more factors in vla/claims/ledger.py")
    return found[0] if found else None


def shown(value: float, metric: str, *, sign: bool = False) -> str:
    """A value in the unit of its table."""
    scaled = 100 * value if metric in SHARES else value
    return f"{scaled:{'+' if sign else ''}.1f}"

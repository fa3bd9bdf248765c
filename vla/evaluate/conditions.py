"""Where a policy succeeds and where it does not: its trials by a condition, and whether the conditions really differ.

A mean over scenes hides a policy that lifts cubes and drops balls. Heterogeneity is tested by a permutation of the trials over the conditions
(Pearson's chi-square as the statistic, scipy's `chi2_contingency`): no condition needs many trials for it to be exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import PermutationMethod, chi2_contingency

from robot_io import UserError
from robot_io.errors import nearest
from vla.evaluate.statistics import Rate, percent, rate_of

RESAMPLES = 9_999


def by_condition(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, Rate]:
    """Success by the values of `key`, a field of a trial file (`instruction`) or of its robot's configuration (`robot.task.distractors`).

    Raises:
        UserError: no row has that field.
    """
    groups: dict[str, list[bool]] = {}
    for row in rows:
        groups.setdefault(str(_value(row, key)), []).append(bool(row["success"]))
    return {name: rate_of(flags) for name, flags in sorted(groups.items())}


def heterogeneity(rates: Mapping[str, Rate]) -> float:
    """How often conditions among which nothing differs would look at least this different. 1 if there is only one, or one outcome."""
    successes = np.array([round(rate.mean * rate.n) for rate in rates.values()])
    counts = np.array([rate.n for rate in rates.values()])
    if len(rates) < 2 or successes.sum() in (0, counts.sum()):
        return 1.0
    method = PermutationMethod(n_resamples=RESAMPLES, rng=np.random.default_rng(0))
    return float(chi2_contingency(np.stack([successes, counts - successes]), correction=False, method=method).pvalue)


def table(rates: Mapping[str, Mapping[str, Rate]], key: str) -> str:
    """Markdown: a line per condition, a column per policy, and last the heterogeneity of each."""
    conditions = list(dict.fromkeys(condition for of_policy in rates.values() for condition in of_policy))
    lines = [f"| {key} | {' | '.join(rates)} |", "| --- |" + " ---: |" * len(rates)]
    for condition in conditions:
        cells = [_cell(of_policy.get(condition)) for of_policy in rates.values()]
        lines.append(f"| {condition} | {' | '.join(cells)} |")
    tests = " | ".join(f"p = {heterogeneity(of_policy):.3f}" for of_policy in rates.values())
    return "\n".join([*lines, f"| *do they differ?* | {tests} |"])


def _cell(rate: Rate | None) -> str:
    return "–" if rate is None else f"{percent(rate)} of {rate.n}"


def _value(row: Mapping[str, Any], key: str) -> Any:
    value: Any = row
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise UserError(f"condition '{key}'", "no trial has that field", f"one of {', '.join(row)}, or robot.…", nearest(key, list(row)))
        value = value[part]
    return value

"""Which of several policies differ: every pair tested on the same seeds, the family's error held, the answer as letters.

Two policies that share a letter were not told apart. A letter is a largest set of policies of which no two were told apart, so
the display says exactly what the tests said (the compact letter display of Piepho 2004, "An algorithm for a letter-based
representation of all-pairwise comparisons"; Toyota's LBM study, arXiv 2507.05331, shows policies so). Pairs are tested with
McNemar's exact test, their p-values adjusted by Holm (1979): at most 5 % of such tables hold any false difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from string import ascii_lowercase

import networkx
import numpy as np

from robot_io import UserError
from vla.evaluate.statistics import Comparison, Rate, compare, percent, rate_of


@dataclass(frozen=True)
class Standing:
    """One policy's line: `letters` such as `ab`."""

    name: str
    success: Rate
    letters: str


@dataclass(frozen=True)
class Pair:
    """Two policies: the paired comparison, and its p-value adjusted for the number of pairs."""

    a: str
    b: str
    comparison: Comparison
    adjusted: float


def holm(p_values: list[float]) -> list[float]:
    """Step-down adjusted p-values (Holm 1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted.tolist()


def rank(successes: Mapping[str, Mapping[int, bool]], *, level: float = 0.95) -> tuple[list[Standing], list[Pair]]:
    """Policies by falling success with their letters, and every pair.

    Args:
        successes: by policy, success by seed.

    Raises:
        UserError: fewer than two policies, more sets than letters, or policies that did not run the same seeds.
    """
    if len(successes) < 2:
        raise UserError("comparison", f"{len(successes)} policy", "two or more", "name another one")
    found = [(a, b, compare(successes[a], successes[b])) for a, b in combinations(successes, 2)]
    adjusted = holm([comparison.p_value for _, _, comparison in found])
    pairs = [Pair(a, b, comparison, p) for (a, b, comparison), p in zip(found, adjusted, strict=True)]
    rates = {name: rate_of(list(flags.values())) for name, flags in successes.items()}
    names = sorted(successes, key=lambda name: -rates[name].mean)
    apart = {frozenset((pair.a, pair.b)) for pair in pairs if pair.adjusted <= 1 - level}
    marks = letter_display(names, apart)
    return [Standing(name, rates[name], marks[name]) for name in names], pairs


def letter_display(names: list[str], apart: set[frozenset[str]]) -> dict[str, str]:
    """Letters for `names` (best first) such that two share one exactly if they are not in `apart`."""
    alike = networkx.Graph()
    alike.add_nodes_from(names)
    alike.add_edges_from(pair for pair in combinations(names, 2) if frozenset(pair) not in apart)
    groups = sorted(sorted(names.index(name) for name in clique) for clique in networkx.find_cliques(alike))
    if len(groups) > len(ascii_lowercase):
        raise UserError("comparison", f"{len(groups)} sets of like policies", "at most 26", "compare fewer policies at a time")
    return {name: "".join(letter for letter, group in zip(ascii_lowercase, groups, strict=False) if names.index(name) in group)
            for name in names}


def table(standings: list[Standing]) -> str:
    """Markdown, best first."""
    lines = [f"| {s.name} | {percent(s.success)} | {s.success.n} | {s.letters} |" for s in standings]
    return "\n".join(["| policy | success | trials | letters |", "| --- | ---: | ---: | --- |", *lines,
                      "", "Policies that share a letter were not told apart (McNemar's exact test on the same scenes, Holm's adjustment)."])

"""Claims are judged by intervals: against published values, and for every verdict there is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robot_io import UserError
from vla.claims import CLAIMS, Claim
from vla.claims.__main__ import page
from vla.claims.claim import apart, judge
from vla.evaluate.statistics import rate
from vla.results import save_rows

ROOT = Path(__file__).parents[3]


def row(policy: str, successes: int, n: int, **more: str) -> dict:
    return {"cell": {"policy": policy, **more}, "metric": "success", **rate(successes, n).to_dict(), "seeds": [], "recipe": "", "command": "vla x"}


def test_the_interval_of_a_difference_is_newcombes():
    """Newcombe 1998 (Statistics in Medicine 17, 873), table II, contrast (a), method 10: 56 of 70 against 48 of 80."""
    difference, low, high = apart(row("a", 56, 70), row("b", 48, 80))
    assert difference == pytest.approx(0.2)
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


def test_the_interval_covers_the_true_difference():
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        p, q = random.uniform(0.05, 0.95, 2)
        _, low, high = apart(row("a", int(random.binomial(100, p)), 100), row("b", int(random.binomial(80, q)), 80))
        covered += low <= p - q <= high
    assert covered / 400 >= 0.93


@pytest.mark.parametrize("more, less, options, verdict", [
    (90, 40, {}, "holds"), (40, 90, {}, "does not"), (72, 70, {}, "undecided"),
    (89, 90, {"margin": -0.2}, "holds"), (20, 10, {"margin": -0.2}, "undecided"), (40, 90, {"margin": -0.2}, "does not"), (75, 90, {"margin": -0.2}, "undecided"),
    (85, 90, {"ratio": 0.7}, "holds"), (40, 90, {"ratio": 0.7}, "does not")])
def test_verdicts(tmp_path: Path, more: int, less: int, options: dict, verdict: str):
    save_rows(tmp_path / "t.json", [row("ours", more, 100), row("theirs", less, 100)])
    claim = Claim("X", "a paper", "ours is better", "t", {"policy": "ours"}, {"policy": "theirs"}, **options)
    assert judge(claim, tmp_path).verdict == verdict


def test_a_bound_must_be_passed_by_the_whole_interval(tmp_path: Path):
    save_rows(tmp_path / "t.json", [row("ours", 100, 100)])
    claim = {"id": "X", "source": "a paper", "statement": "nine of ten", "table": "t", "more": {"policy": "ours"}}
    assert judge(Claim(**claim, bound=0.9), tmp_path).verdict == "holds"
    assert judge(Claim(**claim, bound=0.97), tmp_path).verdict == "undecided"
    with pytest.raises(ValueError, match="second cell or a bound"):
        Claim(**claim)


def test_what_is_missing_or_ambiguous_is_said(tmp_path: Path):
    claim = Claim("X", "a paper", "ours is better", "t", {"policy": "ours"}, {"policy": "theirs"})
    assert judge(claim, tmp_path).verdict == "not measured"
    save_rows(tmp_path / "t.json", [row("ours", 1, 2)])
    assert judge(claim, tmp_path).verdict == "not measured"
    save_rows(tmp_path / "t.json", [row("ours", 1, 2, seed="0"), row("ours", 2, 2, seed="1"), row("theirs", 1, 2)])
    with pytest.raises(UserError, match="fits 2 rows"):
        judge(claim, tmp_path)


def test_every_claim_in_the_ledger_can_be_judged():
    text = page(ROOT / "docs" / "results")
    assert all(claim.statement in text for claim in CLAIMS)

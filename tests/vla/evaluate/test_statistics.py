"""`vla.evaluate.statistics`: intervals cover what they promise, and the paired test keeps its level."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_io import UserError
from vla.evaluate.statistics import compare, mean_of, rate, rate_of

METHODS = ("wilson", "jeffreys", "clopper-pearson")


@pytest.mark.parametrize("method, floor", [("wilson", 0.94), ("jeffreys", 0.94), ("clopper-pearson", 0.95)])
def test_coverage(method, floor):
    """Over success probabilities drawn evenly, the 95 % interval holds the truth at least about that often."""
    random = np.random.default_rng(0)
    truth = random.uniform(0, 1, 20_000)
    intervals = [rate(k, 100, method=method) for k in range(101)]
    low, high = np.array([i.low for i in intervals]), np.array([i.high for i in intervals])
    successes = random.binomial(100, truth)
    covered = (low[successes] <= truth) & (truth <= high[successes])
    assert floor <= covered.mean() <= 0.98


def test_wilson_against_the_published_value():
    """Newcombe 1998, table I, method 3 (score): 81 of 263."""
    interval = rate(81, 263)
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.2553, 0.3662)


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from(METHODS))
def test_intervals_hold_the_mean_and_stay_in_range(counts, method):
    interval = rate(*counts, method=method)
    assert 0 <= interval.low <= interval.mean + 1e-12 and interval.mean - 1e-12 <= interval.high <= 1
    assert interval.low < interval.high and interval.n == counts[1]


def test_no_trials_say_nothing():
    assert (rate_of([]).low, rate_of([]).high) == (0, 1)


def test_comparison_counts_pairs_and_keeps_its_level():
    result = compare({1: True, 2: True, 3: False, 4: False}, {1: True, 2: False, 3: False, 4: False})
    assert (result.both, result.a_only, result.b_only, result.neither) == (1, 1, 0, 2)
    assert result.difference == 0.25 and result.p_value == 1.0
    better = compare(dict.fromkeys(range(20), True), {seed: seed >= 10 for seed in range(20)})
    assert better.p_value == pytest.approx(2 * 0.5**10)

    random = np.random.default_rng(1)
    rejected = sum(
        compare(dict(enumerate(random.random(60) < 0.7)), dict(enumerate(random.random(60) < 0.7))).p_value < 0.05
        for _ in range(500)
    )
    assert rejected <= 35  # 5 % of 500 and 2 standard errors


def test_comparison_of_different_seeds_is_refused():
    with pytest.raises(UserError, match="the same seeds for both"):
        compare({1: True}, {2: True})


def test_mean_interval_covers():
    random = np.random.default_rng(2)
    intervals = [mean_of(random.normal(5, 2, 40)) for _ in range(40)]
    assert sum(i.low <= 5 <= i.high for i in intervals) >= 33
    assert mean_of([3.0, 3.0]).low == mean_of([3.0, 3.0]).high == 3.0

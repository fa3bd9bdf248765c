"""The sequential test keeps its level however often one looks, stops early when the difference is large, and is a martingale."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from vla.evaluate.sequential import PairedTest, log_evidence

EXPERIMENTS, TRIALS = 10_000, 200


def crossings(p_a: float, p_b: float, alpha: float = 0.05) -> np.ndarray:
    """Per simulated experiment the pair at which the test decided; TRIALS if it never did."""
    random = np.random.default_rng(0)
    a, b = (random.uniform(size=(EXPERIMENTS, TRIALS)) < p for p in (p_a, p_b))
    e = log_evidence((a & ~b).cumsum(1), (b & ~a).cumsum(1))
    reached = e >= np.log(1 / alpha)
    return np.where(reached.any(1), reached.argmax(1) + 1, TRIALS + 1)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8, 0.97])
def test_type_one_error_over_ten_thousand_experiments(p):
    assert (crossings(p, p) <= TRIALS).mean() <= 0.05


def test_a_clear_answer_comes_early():
    stopped = crossings(0.9, 0.4)
    assert (stopped <= TRIALS).mean() > 0.99 and np.median(stopped) < 40


def test_peeking_at_an_ordinary_test_is_what_this_is_for():
    """McNemar's exact test, looked at after every tenth pair, finds differences between equals more often than it says."""
    random = np.random.default_rng(0)
    wrong = 0
    for _ in range(300):
        a, b = random.uniform(size=(2, TRIALS)) < 0.5
        a_only, b_only = (a & ~b).cumsum(), (b & ~a).cumsum()
        wrong += any(binomtest(int(a_only[t]), int(a_only[t] + b_only[t])).pvalue < 0.05 for t in range(19, TRIALS, 10))
    assert wrong / 300 > 0.08


@pytest.mark.parametrize("m", [1, 5, 30])
def test_evidence_is_one_on_average_under_the_null(m):
    k = np.arange(m + 1)
    assert (binom.pmf(k, m, 0.5) * np.exp(log_evidence(k, m - k))).sum() == pytest.approx(1)


def test_fed_pair_after_pair_it_decides_once_and_keeps_to_it():
    test = PairedTest()
    decided = [test.add(True, False) for _ in range(12)]
    assert decided[0] is None and decided[-1] == "a"
    assert [test.add(False, True) for _ in range(30)] == ["a"] * 30
    assert PairedTest().add(True, True) is None

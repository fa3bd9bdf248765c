"""Letters say what the pairwise tests say; Holm's adjustment against its definition; the family's error is held."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_io import UserError
from vla.evaluate.letters import holm, letter_display, rank


@given(st.integers(2, 7).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.sampled_from(list(combinations(range(n), 2)))))))
def test_two_share_a_letter_exactly_if_they_were_not_told_apart(drawn):
    n, different = drawn
    names = [f"p{i}" for i in range(n)]
    apart = {frozenset((names[i], names[j])) for i, j in different}
    letters = letter_display(names, apart)
    for a, b in combinations(names, 2):
        assert bool(set(letters[a]) & set(letters[b])) == (frozenset((a, b)) not in apart)
    assert letters[names[0]].startswith("a") and all(letters.values())


def test_a_hand_worked_display():
    """The best differs from the two last, the second from the last only."""
    apart = {frozenset(pair) for pair in ("ac", "ad", "bd")}
    assert letter_display(list("abcd"), apart) == {"a": "a", "b": "ab", "c": "bc", "d": "c"}


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.5]) == pytest.approx([1.0, 1.0])


def test_ranking_orders_by_success_and_separates_what_differs():
    random = np.random.default_rng(0)
    draw = {name: dict(enumerate(random.uniform(size=200) < p)) for name, p in {"low": 0.4, "high": 0.9, "same": 0.88}.items()}
    standings, pairs = rank(draw)
    assert [s.letters for s in standings] == ["a", "a", "b"] and standings[-1].name == "low"
    assert len(pairs) == 3 and all(pair.adjusted >= pair.comparison.p_value for pair in pairs)


def test_family_wise_error_of_five_equal_policies():
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(300):
        draw = {name: dict(enumerate(random.uniform(size=60) < 0.7)) for name in "abcde"}
        wrong += len({s.letters for s in rank(draw)[0]}) > 1
    assert wrong / 300 <= 0.05


def test_one_policy_is_no_comparison():
    with pytest.raises(UserError, match="two or more"):
        rank({"alone": {0: True}})

"""Votes over fewer branches agree with counting every choice of them."""

from itertools import combinations, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.core.majority import majority_accuracy


def _by_hand(votes: list[int], n: int) -> float:
    """Share of choices of n in which class 0 has the most votes; -1 is no vote, ties are shared."""
    won, num = 0.0, 0
    for chosen in combinations(votes, n):
        num += 1
        counts = [chosen.count(c) for c in sorted({v for v in votes if v >= 0})]
        most = max(counts, default=0)
        if most and 0 in votes and chosen.count(0) == most:
            won += 1 / counts.count(most)
    return won / num


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-1, 3), min_size=1, max_size=9), st.data())
def test_it_is_the_mean_over_all_choices(votes: list[int], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(votes)))
    others = tuple(votes.count(c) for c in (1, 2, 3) if c in votes)

    found = majority_accuracy(votes.count(0), others, votes.count(-1), n)

    assert found == pytest.approx(_by_hand(votes, n))


def test_the_earliest_finisher_wins_a_tie_as_often_as_not() -> None:
    # What the system does, over all orders in which four branches may end.
    wins = [order.index(0) < order.index(1) for order in permutations([0, 0, 1, 1])]
    assert majority_accuracy(2, (2,), 0, 4) == sum(wins) / len(wins)


@pytest.mark.parametrize("order", list(permutations((1, 2, 4))))
def test_the_order_of_classes_does_not_matter(order: tuple[int, ...]) -> None:
    assert majority_accuracy(3, order, 2, 7) == pytest.approx(majority_accuracy(3, (1, 2, 4), 2, 7))


def test_many_branches_of_many_classes_are_counted_exactly() -> None:
    assert majority_accuracy(64, (), 0, 64) == 1.0
    assert majority_accuracy(0, (1,) * 64, 0, 64) == 0.0
    assert majority_accuracy(32, (1,) * 32, 0, 1) == 0.5
    assert majority_accuracy(32, (1,) * 32, 0, 64) == 1.0


@pytest.mark.parametrize("n", [0, 4])
def test_more_branches_than_there_are_cannot_be_taken(n: int) -> None:
    with pytest.raises(ValueError, match="of 3 branches"):
        majority_accuracy(1, (1,), 1, n)

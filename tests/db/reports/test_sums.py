"""Sums are the same however their records are ordered, repeated or written."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from db.reports.sums import Strings, Sums, packed
from scheduler.core.sketch import MAX_BIN

keys = st.tuples(st.integers(-1100, 1100), st.integers(-MAX_BIN, MAX_BIN))
few_keys = st.tuples(st.integers(-1, 1), st.integers(-3, 3))
records = st.lists(st.tuples(st.one_of(keys, few_keys), st.integers(0, 100)), max_size=300)


@given(records, records)
def test_strings_are_added_by_concatenation(
    one: list[tuple[tuple[int, int], int]], other: list[tuple[tuple[int, int], int]]
) -> None:
    expected: Counter[tuple[int, int]] = Counter()
    for key, weight in one + other:
        expected[key] += weight
    strings = [_string(part) for part in (one, other)]

    sums = Sums(b"".join(strings))
    (added,) = Strings.of(strings).added(np.array([0, 0]), 1).written()
    apart = Strings.of(strings).added(np.array([1, 0]), 3).written()

    for found in (sums, Sums(added), Sums(b"".join(apart))):
        assert found.parts() == sorted({part for part, _ in expected})
        assert {
            (part, place): weight
            for part in found.parts()
            for place, weight in found.counts(part).items()
        } == expected
    assert len(added) == 12 * len(expected)
    assert [len(string) // 12 for string in apart] == [
        len({key for key, _ in part}) for part in (other, one, [])
    ]


def test_nothing_has_no_parts() -> None:
    assert Sums().parts() == []
    assert Sums().counts(0) == {}
    assert Sums().percentiles(1).p50 is None


def _string(sums: list[tuple[tuple[int, int], int]]) -> bytes:
    table = np.array([(*key, weight) for key, weight in sums], int).reshape(-1, 3)
    return packed(*table.T)

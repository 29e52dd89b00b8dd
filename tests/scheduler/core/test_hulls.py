"""Upper concave envelopes of accuracy over cost."""

import numpy as np

from scheduler.core.hulls import MAX_HULL, walk_hulls

TIE = 0.002


def walk(cost: np.ndarray, accuracy: np.ndarray) -> list[int]:
    allowed = np.ones((1, len(cost)), dtype=bool)
    start = np.array([int(cost.argmin())])
    hull = walk_hulls(cost[None], accuracy[None], allowed, start, TIE)[0]
    return [int(vertex) for vertex in hull if vertex >= 0]


def test_a_hull_leaves_out_what_is_below_it() -> None:
    cost = np.array([1.0, 2.0, 3.0, 4.0])
    accuracy = np.array([0.5, 0.52, 0.7, 0.71])
    assert walk(cost, accuracy) == [0, 2, 3]


def test_a_hull_of_too_many_vertices_still_ends_with_the_most_accurate() -> None:
    cost = np.arange(1.0, 41.0)
    accuracy = np.sqrt(cost / 40.0)
    found = walk(cost, accuracy)
    assert len(found) == MAX_HULL
    assert found[-1] == 39
    rates = np.diff(accuracy[found]) / np.diff(cost[found])
    assert (np.diff(rates) <= 1e-12).all()

"""How long jobs wait for what comes and is due before them."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scheduler.core.overtaking import passing_s
from scheduler.core.snapshot import ARRIVAL_WINDOW_S, NO_ARRIVALS, Arrivals

classes = st.lists(st.tuples(st.floats(1.0, 600.0), st.integers(1, 3000)), max_size=5)


def passed(queue_s: float, each_s: float, limit_s: float, arrivals: Arrivals) -> float:
    queue, each, limit = np.array([[queue_s], [each_s], [limit_s]])
    return float(passing_s(queue, each, limit, arrivals)[0])


@given(
    queue_s=st.floats(0.0, 100.0), each_s=st.floats(0.0, 1.0), limit_s=st.floats(0, 900), of=classes
)
@example(queue_s=6e-08, each_s=1.0, limit_s=61.0, of=[(1.0, 301)])
def test_a_wait_ends_at_the_first_moment_at_which_all_that_is_due_before_is_done(
    queue_s: float, each_s: float, limit_s: float, of: list[tuple[float, int]]
) -> None:
    wait_s = queue_s + passed(
        queue_s, each_s, limit_s, Arrivals(ARRIVAL_WINDOW_S, promised=tuple(of))
    )

    def undone_s(at_s: float) -> float:
        come = (n / ARRIVAL_WINDOW_S * min(at_s, max(limit_s - given, 0.0)) for given, n in of)
        return queue_s + each_s * sum(come) - at_s

    assert undone_s(wait_s) == pytest.approx(0.0, abs=1e-5 * (1.0 + wait_s))
    for share in (0.0, 0.3, 0.6, 0.9):
        assert undone_s(share * wait_s) >= -1e-5 * (1.0 + wait_s)


def test_nothing_passes_without_promised_arrivals_or_where_nobody_waits() -> None:
    assert passed(20.0, 0.1, 300.0, Arrivals(300.0, ((30.0, 600),))) == 0.0
    assert passed(20.0, 0.1, 300.0, NO_ARRIVALS) == 0.0
    assert passed(0.0, 0.1, 300.0, Arrivals(300.0, promised=((30.0, 600),))) == 0.0


def test_what_is_due_later_passes_nobody() -> None:
    def behind(given_s: float) -> float:
        return passed(20.0, 0.25, 100.0, Arrivals(300.0, promised=((given_s, 600),)))

    assert behind(100.0) == 0.0
    forever = Arrivals(300.0, promised=((100.0, 600),))
    assert passed(20.0, 0.25, np.inf, forever) == pytest.approx(20.0)
    # Half of the rows go to what comes, so the wait doubles.
    assert behind(10.0) == pytest.approx(20.0)
    # Only what comes within the next 10 s is due before.
    assert behind(90.0) == pytest.approx(5.0)

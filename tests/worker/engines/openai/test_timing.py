"""Steps are timed by when chunks come, which is often in bunches."""

import pytest

from worker.engines.openai.timing import step_times


def test_chunks_that_come_in_bunches_tell_the_time_of_a_step() -> None:
    # Two rows of 20 steps of 10 ms, some read four at a time; the first two are warm-up.
    times = [0.01 * step for step in range(21)]
    bunched = [0.04 * (-(-step // 4)) for step in range(21)]
    for rows in ([times, times], [bunched, bunched], [times, bunched]):
        found = step_times(rows)
        assert len(found) == 18
        assert set(found) == {found[0]}
        assert found[0] == pytest.approx(0.01, rel=0.2)


def test_only_what_all_rows_decode_is_timed() -> None:
    early = [0.01 * step for step in range(8)]
    late = [0.03 + 0.01 * step for step in range(20)]
    # Together from 0.03 to 0.07: five chunks each, two of them warm-up.
    assert step_times([early, late]) == pytest.approx([0.01, 0.01])


@pytest.mark.parametrize("arrivals", [[[]], [[], [0.1, 0.2]], [[0.1, 0.2, 0.3]], [[0.1] * 3, []]])
def test_streams_that_are_too_short_tell_nothing(arrivals: list[list[float]]) -> None:
    assert step_times(arrivals) == []

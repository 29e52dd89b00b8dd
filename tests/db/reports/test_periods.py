"""A range is put together from whole days, whole hours and the rest, whatever is stale in it."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from db.reports.periods import DAY, HOUR, Every, Stretch, stretches
from tests.factories import NOW

instants = st.integers(0, 6 * 86_400).map(lambda seconds: NOW + timedelta(seconds=seconds))
hours = st.integers(0, 6 * 24).map(lambda number: NOW + number * HOUR)


@given(instants, instants, st.sets(hours), st.sampled_from([None, *Every]))
def test_stretches_cover_the_range_once_and_read_nothing_stale(
    since: datetime, until: datetime, stale: set[datetime], finest: Every | None
) -> None:
    found = stretches(since, until, stale, finest=finest)

    edges = [since, *(stretch.until for stretch in found)]
    assert [stretch.since for stretch in found] == edges[:-1]
    assert not found or edges[-1] == until
    for one, next_one in pairwise(found):
        assert one.rollups is not next_one.rollups
    for stretch in found:
        if stretch.rollups is None:
            continue
        assert stretch.since == stretch.rollups.begin(stretch.since)
        assert stretch.until == stretch.rollups.begin(stretch.until)
        assert not any(stretch.since <= hour < stretch.until for hour in stale)
        assert not (finest is Every.HOUR and stretch.rollups is Every.DAY)


def test_whole_days_and_hours_are_read_from_rollups() -> None:
    day = datetime(2026, 1, 6, tzinfo=UTC)
    found = stretches(
        NOW + timedelta(minutes=20), day + 2 * DAY + 90 * HOUR / 60, set(), finest=None
    )
    assert found == [
        Stretch(NOW + timedelta(minutes=20), NOW + HOUR, None),
        Stretch(NOW + HOUR, day, Every.HOUR),
        Stretch(day, day + 2 * DAY, Every.DAY),
        Stretch(day + 2 * DAY, day + 2 * DAY + HOUR, Every.HOUR),
        Stretch(day + 2 * DAY + HOUR, day + 2 * DAY + 1.5 * HOUR, None),
    ]


def test_days_are_those_of_utc_wherever_the_range_was_asked_for() -> None:
    tokyo = timezone(timedelta(hours=9))
    assert Every.DAY.begin(datetime(2026, 1, 6, 3, 30, tzinfo=tokyo)) == datetime(
        2026, 1, 5, tzinfo=UTC
    )

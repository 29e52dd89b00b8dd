"""Hours and days of UTC, and how a range of time is put together from them."""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class Every(StrEnum):
    """Buckets of time."""

    HOUR = "hour"
    DAY = "day"

    def begin(self, at: datetime) -> datetime:
        """Beginning, in UTC, of the bucket that holds an instant."""
        at = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        return at if self is Every.HOUR else at.replace(hour=0)

    @property
    def length(self) -> timedelta:
        """How long a bucket lasts."""
        return HOUR if self is Every.HOUR else DAY


class Stretch(NamedTuple):
    """Part of a range, and the rollups that it is read from; None for rows."""

    since: datetime
    until: datetime
    rollups: Every | None


def stretches(
    since: datetime, until: datetime, stale: Collection[datetime], *, finest: Every | None
) -> list[Stretch]:
    """The range as whole days, whole hours and the rest, in order.

    Args:
        stale: Hours that must be read from rows.
        finest: Buckets that the sums are wanted by, which no rollup may be longer than.
    """
    found: list[Stretch] = []
    for stretch in _steps(since, until, stale, finest is not Every.HOUR):
        if found and found[-1].rollups is stretch.rollups:
            found[-1] = found[-1]._replace(until=stretch.until)
        else:
            found.append(stretch)
    return found


def _steps(
    since: datetime, until: datetime, stale: Collection[datetime], days: bool
) -> Iterator[Stretch]:
    stale_days = {Every.DAY.begin(hour) for hour in stale}
    while since < until:
        hour, day = Every.HOUR.begin(since), Every.DAY.begin(since)
        if days and since == day and day + DAY <= until and day not in stale_days:
            step = Stretch(since, day + DAY, Every.DAY)
        elif since == hour and hour + HOUR <= until and hour not in stale:
            step = Stretch(since, hour + HOUR, Every.HOUR)
        else:
            step = Stretch(since, min(hour + HOUR, until), None)
        yield step
        since = step.until

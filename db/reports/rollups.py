"""Sums up hours and days, once they are over, and reads the sums."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

import numpy as np
from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

from db.copies import copy_rows
from db.models import HistoryHour, Rollup
from db.reports import accuracy, attainment, calibration, costs, latency, speculation
from db.reports.cells import DETAILS, DETAILS_OF_DAYS, Cell, Where
from db.reports.facts import COLUMNS, DIMENSIONS
from db.reports.periods import DAY, HOUR, Every
from db.reports.sums import Strings
from db.session import BINARY, think_longer

SETTLING = timedelta(minutes=1)
"""How long after its end an hour is summed up: most of what ended in it has been stored by then."""

MAX_RUN = 4 * HOUR
"""Of how many hours one statement sums up rows: the sums of all their batches are held at once."""

SUBJECTS = tuple(
    module.SUBJECT for module in (latency, attainment, calibration, accuracy, speculation, costs)
)


_EVERYTHING = Where("true", {})
_Key: TypeAlias = tuple[datetime, tuple[str, ...]]


def due_days(session: Session, *, now: datetime) -> list[datetime]:
    """Days with hours that are over and stale, latest first."""
    hours = session.scalars(
        select(HistoryHour.hour).where(
            HistoryHour.state == "stale", HistoryHour.hour <= now - HOUR - SETTLING
        )
    )
    return sorted({Every.DAY.begin(hour) for hour in hours}, reverse=True)


def roll_up_day(session: Session, day: datetime, *, now: datetime) -> int:
    """Sum up the stale hours of a day that are over, and the day; returns how many hours.

    Doing it again gives the same, and a crash in between leaves everything as it was.
    """
    due = (
        select(HistoryHour.hour)
        .where(
            HistoryHour.state == "stale",
            HistoryHour.hour >= day,
            HistoryHour.hour < day + DAY,
            HistoryHour.hour <= now - HOUR - SETTLING,
        )
        # In the order in which writers hold them.
        .order_by(HistoryHour.hour)
        .with_for_update()
    )
    # An hour of a hundred thousand branches takes seconds between two statements.
    think_longer(session)
    hours = session.scalars(due).all()
    session.execute(update(HistoryHour).where(HistoryHour.hour.in_(hours)).values(state="rolled"))
    for since, until in _runs(hours):
        _replace(session, Every.HOUR, since, until, _sum_of_rows(session, since, until))
    if hours:
        _replace(session, Every.DAY, day, day + DAY, _sum_of_hours(session, day))
    return len(hours)


def _runs(hours: Iterable[datetime]) -> list[tuple[datetime, datetime]]:
    """Stretches of neighboring hours, given in order, which one statement sums up."""
    runs: list[tuple[datetime, datetime]] = []
    for hour in hours:
        since, until = runs[-1] if runs else (hour, None)
        if until == hour and hour - since < MAX_RUN:
            runs[-1] = (since, hour + HOUR)
        else:
            runs.append((hour, hour + HOUR))
    return runs


def _sum_of_rows(
    session: Session, since: datetime, until: datetime
) -> Iterator[Mapping[str, object]]:
    for subject in SUBJECTS:
        cells = list(subject.from_rows(session, since, until, _EVERYTHING))
        yield from _in_detail(subject.name, cells, DETAILS)


_HOURS = text(f"""
SELECT {COLUMNS}, sums FROM rollups
WHERE subject = :subject AND detail = 'all' AND period = 'hour' AND at >= :day AND at < :next_day
""")


def _sum_of_hours(session: Session, day: datetime) -> Iterator[Mapping[str, object]]:
    for subject in SUBJECTS:
        asked = {"subject": subject.name, "day": day, "next_day": day + DAY}
        rows = session.execute(_HOURS, asked, execution_options=BINARY)
        cells = [Cell(day, tuple(dimensions), sums) for *dimensions, sums in rows]
        yield from _in_detail(subject.name, cells, DETAILS | DETAILS_OF_DAYS)


def _in_detail(
    subject: str, cells: list[Cell], details: Mapping[str, tuple[str, ...]]
) -> Iterator[Mapping[str, object]]:
    """Cells added up by what each detail keeps; the dimensions that it leaves out are empty."""
    # What has equal dimensions is added up first: the details begin with few and short strings.
    keys = [(cell.at, cell.dimensions) for cell in cells]
    keys, finest = _added(keys, Strings.of([cell.sums for cell in cells]))
    for detail, kept in details.items():
        is_kept = [name in kept for name in DIMENSIONS]
        found, strings = _added([(at, _blanked(values, is_kept)) for at, values in keys], finest)
        for (at, values), sums in zip(found, strings.written(), strict=True):
            dimensions = dict(zip(DIMENSIONS, values, strict=True))
            yield {"subject": subject, "detail": detail, "at": at, **dimensions, "sums": sums}


def _added(keys: Sequence[_Key], strings: Strings) -> tuple[list[_Key], Strings]:
    """Strings with equal keys added up; each key once."""
    numbers: dict[_Key, int] = {}
    groups = [numbers.setdefault(key, len(numbers)) for key in keys]
    return list(numbers), strings.added(np.array(groups, int), len(numbers))


def _blanked(dimensions: tuple[str, ...], is_kept: Sequence[bool]) -> tuple[str, ...]:
    return tuple(value if kept else "" for value, kept in zip(dimensions, is_kept, strict=True))


def _replace(
    session: Session,
    period: Every,
    since: datetime,
    until: datetime,
    found: Iterable[Mapping[str, object]],
) -> None:
    session.execute(
        delete(Rollup).where(Rollup.period == period, Rollup.at >= since, Rollup.at < until)
    )
    copy_rows(session, Rollup, [{"period": period.value, **row} for row in found])

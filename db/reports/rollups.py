"""Sums up hours and days, once they are over, and reads the sums."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

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

SETTLING = timedelta(minutes=1)
"""How long after its end an hour is summed up: most of what ended in it has been stored by then."""

SUBJECTS = tuple(
    module.SUBJECT for module in (latency, attainment, calibration, accuracy, speculation, costs)
)


_EVERYTHING = Where("true", {})


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
    hours = session.scalars(
        update(HistoryHour)
        .where(
            HistoryHour.state == "stale",
            HistoryHour.hour >= day,
            HistoryHour.hour < day + DAY,
            HistoryHour.hour <= now - HOUR - SETTLING,
        )
        .values(state="rolled")
        .returning(HistoryHour.hour)
    ).all()
    for hour in hours:
        _replace(session, Every.HOUR, hour, _sum_of_rows(session, hour))
    if hours:
        _replace(session, Every.DAY, day, _sum_of_hours(session, day))
    return len(hours)


def _sum_of_rows(session: Session, hour: datetime) -> Iterator[Mapping[str, object]]:
    for subject in SUBJECTS:
        cells = list(subject.from_rows(session, hour, hour + HOUR, _EVERYTHING))
        yield from _in_detail(subject.name, cells, DETAILS)


_HOURS = text(f"""
SELECT at, {COLUMNS}, sums FROM rollups
WHERE subject = :subject AND detail = 'all' AND period = 'hour' AND at >= :day AND at < :next_day
""")


def _sum_of_hours(session: Session, day: datetime) -> Iterator[Mapping[str, object]]:
    for subject in SUBJECTS:
        rows = session.execute(_HOURS, {"subject": subject.name, "day": day, "next_day": day + DAY})
        cells = [Cell(at, tuple(dimensions), sums) for at, *dimensions, sums in rows]
        yield from _in_detail(subject.name, cells, DETAILS | DETAILS_OF_DAYS)


def _in_detail(
    subject: str, cells: list[Cell], details: Mapping[str, tuple[str, ...]]
) -> Iterator[Mapping[str, object]]:
    """Cells added up by what each detail keeps; the dimensions that it leaves out are empty."""
    strings = Strings([cell.sums for cell in cells])
    for detail, kept in details.items():
        is_kept = [name in kept for name in DIMENSIONS]
        numbers: dict[tuple[str, ...], int] = {}
        groups = [
            numbers.setdefault(
                tuple(v if keep else "" for v, keep in zip(cell.dimensions, is_kept, strict=True)),
                len(numbers),
            )
            for cell in cells
        ]
        sums = strings.added(np.array(groups, int), len(numbers))
        for dimensions, of_group in zip(numbers, sums, strict=True):
            kept_values = dict(zip(DIMENSIONS, dimensions, strict=True))
            yield {"subject": subject, "detail": detail, **kept_values, "sums": of_group}


def _replace(
    session: Session, period: Every, at: datetime, found: Iterable[Mapping[str, object]]
) -> None:
    session.execute(delete(Rollup).where(Rollup.period == period, Rollup.at == at))
    copy_rows(session, Rollup, [{"period": period.value, "at": at, **row} for row in found])

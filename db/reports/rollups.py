"""Sums up hours and days, once they are over, and reads the sums."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.orm import Session

from db.models import HistoryHour, Rollup
from db.reports import accuracy, attainment, calibration, latency, speculation
from db.reports.cells import DETAILS, Cell, Where
from db.reports.facts import COLUMNS, DIMENSIONS
from db.reports.periods import DAY, HOUR, Every
from db.reports.sums import Sums

SETTLING = timedelta(minutes=1)
"""How long after its end an hour is summed up: most of what ended in it has been stored by then."""

SUBJECTS = tuple(
    module.SUBJECT for module in (latency, attainment, calibration, accuracy, speculation)
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


def _sum_of_rows(session: Session, hour: datetime) -> Iterator[dict[str, object]]:
    for subject in SUBJECTS:
        cells = list(subject.from_rows(session, hour, hour + HOUR, _EVERYTHING))
        for detail, kept in DETAILS.items():
            for dimensions, sums in _merged(cells, kept):
                yield {"subject": subject.name, "detail": detail, **dimensions, "sums": sums}


def _merged(cells: Iterable[Cell], kept: tuple[str, ...]) -> Iterator[tuple[dict[str, str], bytes]]:
    """Cells added up over the dimensions that are not kept."""
    found: dict[tuple[str, ...], list[bytes]] = {}
    for cell in cells:
        named = zip(DIMENSIONS, cell.dimensions, strict=True)
        found.setdefault(tuple(v if name in kept else "" for name, v in named), []).append(
            cell.sums
        )
    for dimensions, parts in found.items():
        yield dict(zip(DIMENSIONS, dimensions, strict=True)), Sums(b"".join(parts)).to_bytes()


_HOURS = text(f"""
SELECT subject, detail, {COLUMNS}, string_agg(sums, '') AS sums
FROM rollups
WHERE period = 'hour' AND at >= :day AND at < :next_day
GROUP BY subject, detail, {COLUMNS}
""")


def _sum_of_hours(session: Session, day: datetime) -> Iterator[dict[str, object]]:
    for row in session.execute(_HOURS, {"day": day, "next_day": day + DAY}):
        yield {**row._mapping, "sums": Sums(row.sums).to_bytes()}


def _replace(
    session: Session, period: Every, at: datetime, sums: Iterable[dict[str, object]]
) -> None:
    session.execute(delete(Rollup).where(Rollup.period == period, Rollup.at == at))
    rows = [{"period": period.value, "at": at, **row} for row in sums]
    if rows:
        session.connection().execute(insert(Rollup), rows)

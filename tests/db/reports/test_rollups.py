"""Reports are the same from rollups as from rows, and rollups are never behind."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from itertools import product
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.batches import lose_batches
from db.branches import insert_branches
from db.models import HistoryHour, Rollup
from db.reports import (
    Every,
    GroupBy,
    Selection,
    accuracy_report,
    attainment_report,
    calibration_report,
    cost_report,
    latency_report,
    speculation_report,
)
from db.reports.rollups import due_days, roll_up_day
from db.session import SessionFactory, transaction
from tests import history
from tests.factories import NOW, after, branch_row, claimed_batch, stored_job, unfinished_row

REPORTS: tuple[Callable[..., list[Any]], ...] = (
    latency_report,
    attainment_report,
    calibration_report,
    accuracy_report,
    speculation_report,
    cost_report,
)
ALL = Selection(NOW - timedelta(days=3), NOW + timedelta(days=3))
LATER = after(3 * 3600)


def _roll_up(sessions: SessionFactory, now: datetime) -> int:
    """Sum up what is due; returns how many hours."""
    with transaction(sessions) as session:
        return sum(roll_up_day(session, day, now=now) for day in due_days(session, now=now))


def _finished(sessions: SessionFactory, **overrides: Any) -> Callable[[Session, datetime], None]:
    """A running batch of one problem; returns what stores a branch of it that ended then."""
    with transaction(sessions) as session:
        batch = claimed_batch(session, stored_job(session, num_problems=1))
    numbers = iter(range(100))

    def add(session: Session, at: datetime) -> None:
        row = branch_row(batch.problems[0].id, next(numbers), finished_at=at, **overrides)
        assert insert_branches(session, batch_id=batch.id, epoch=batch.epoch, rows=[row])

    return add


def _num_branches(sessions: SessionFactory, selection: Selection = ALL) -> int:
    with transaction(sessions) as session:
        return sum(row.num_branches for row in latency_report(session, selection))


def test_reports_do_not_change_when_hours_are_summed_up(
    sessions: SessionFactory, database_url: str
) -> None:
    history.load(database_url, 4_000, until=NOW, days=2)
    begin = NOW - timedelta(days=2)
    selections = (
        Selection(begin, NOW),
        Selection(begin + timedelta(minutes=61), NOW - timedelta(hours=5, minutes=1)),
        Selection(begin, NOW, "ten_school", {"model": "small"}),
        Selection(begin, NOW, None, {"engine": "vllm", "family": "algebra"}),
    )
    groupings: tuple[tuple[GroupBy | None, Every | None], ...] = (
        (None, None), (GroupBy.SPLIT, None), (GroupBy.TENANT, Every.DAY), (GroupBy.HOUR, None),
    )  # fmt: skip

    def told() -> Iterator[Any]:
        with transaction(sessions) as session:
            for report, selection in product(REPORTS, selections):
                for group_by, every in groupings:
                    rows = report(session, selection, group_by=group_by, every=every)
                    assert rows
                    yield [_rounded(asdict(row)) for row in rows]

    from_rows = list(told())
    assert _roll_up(sessions, NOW + timedelta(hours=2)) > 20
    assert list(told()) == from_rows


def _rounded(value: Any) -> Any:
    """The value without what depends on the order of additions."""
    if isinstance(value, float):
        # Sums of microseconds often lie in the middle of two roundings: not any more.
        return round(float(f"{value * (1 + 1e-12):.8g}"), 6)
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value


def test_an_hour_is_summed_up_once_and_only_when_it_is_over(sessions: SessionFactory) -> None:
    add = _finished(sessions)
    with transaction(sessions) as session:
        add(session, after(10))
    hour_over = NOW.replace(minute=0) + timedelta(hours=1)

    assert _roll_up(sessions, hour_over) == 0
    assert _roll_up(sessions, hour_over + timedelta(minutes=1)) == 1
    with transaction(sessions) as session:
        before = session.scalar(select(func.count()).select_from(Rollup))
    assert _roll_up(sessions, LATER) == 0
    with transaction(sessions) as session:
        assert session.scalar(select(func.count()).select_from(Rollup)) == before
    assert _num_branches(sessions) == 1


def test_a_late_row_shows_at_once_and_in_the_next_sum(sessions: SessionFactory) -> None:
    add = _finished(sessions)
    with transaction(sessions) as session:
        add(session, after(10))
    assert _roll_up(sessions, LATER) == 1
    with transaction(sessions) as session:
        add(session, after(20))

    assert _num_branches(sessions) == 2
    assert _roll_up(sessions, LATER) == 1
    assert _num_branches(sessions) == 2
    day = NOW.replace(hour=0)
    assert _num_branches(sessions, Selection(day, day + timedelta(days=1))) == 2


def test_a_sum_waits_for_the_rows_that_are_being_written(sessions: SessionFactory) -> None:
    add = _finished(sessions)
    rolled: list[int] = []
    thread = threading.Thread(target=lambda: rolled.append(_roll_up(sessions, LATER)))
    with transaction(sessions) as session:
        add(session, after(10))
    with transaction(sessions) as session:
        add(session, after(20))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
    thread.join(30)

    assert rolled == [1]
    assert _num_branches(sessions) == 2


def test_a_row_that_comes_during_a_sum_makes_its_hour_stale_again(sessions: SessionFactory) -> None:
    add = _finished(sessions)
    with transaction(sessions) as session:
        add(session, after(10))

    def write() -> None:
        with transaction(sessions) as session:
            add(session, after(20))

    thread = threading.Thread(target=write)
    with transaction(sessions) as session:
        (day,) = due_days(session, now=LATER)
        assert roll_up_day(session, day, now=LATER) == 1
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
    thread.join(30)

    with transaction(sessions) as session:
        assert session.scalars(select(HistoryHour.state)).all() == ["stale"]
    assert _num_branches(sessions) == 2


def test_a_cost_moves_with_the_next_try_out_of_hours_that_were_summed_up(
    sessions: SessionFactory,
) -> None:
    def parts() -> dict[str, tuple[float, float]]:
        """Cancelled and retried row-seconds by hour; summed up, they are the same."""
        told = []
        for _ in range(2):
            with transaction(sessions) as session:
                rows = cost_report(session, ALL, group_by=GroupBy.HOUR)
                told.append(
                    {
                        (row.group or "")[11:16]: (
                            row.row_seconds.cancelled,
                            row.row_seconds.retried,
                        )
                        for row in rows
                    }
                )
            _roll_up(sessions, LATER)
        assert told[0] == told[1]
        return told[1]

    with transaction(sessions) as session:
        job_id = stored_job(session, num_problems=1)
        batch = claimed_batch(session, job_id)
        row = unfinished_row(batch.problems[0].id, started_at=NOW, finished_at=after(3))
        assert insert_branches(session, batch_id=batch.id, epoch=batch.epoch, rows=[row])
    assert parts() == {"12:00": (3.0, 0.0)}

    with transaction(sessions) as session:
        assert lose_batches(session, [batch.id], now=after(3700)) == [batch.id]
    assert parts() == {"12:00": (0.0, 3.0)}

    with transaction(sessions) as session:
        batch = claimed_batch(session, job_id)
        times: dict[str, Any] = {
            name: after(3700) for name in ("queued_at", "started_at", "finished_at")
        }
        row = branch_row(batch.problems[0].id, **times)
        assert insert_branches(session, batch_id=batch.id, epoch=batch.epoch, rows=[row])
    assert parts() == {"13:00": (0.0, 3.0)}


def test_branches_are_told_apart_by_rows_in_use_where_that_is_known(
    sessions: SessionFactory,
) -> None:
    for num_rows in (None, 1, 3, 40_000):
        add = _finished(sessions, num_rows=num_rows)
        with transaction(sessions) as session:
            add(session, NOW)
    with transaction(sessions) as session:
        [row] = speculation_report(session, ALL)
    [draft] = row.by_draft
    ranges = [(by_rows.ge, by_rows.lt) for by_rows in draft.by_rows]
    assert ranges == [(None, None), (1, 2), (2, 4), (16_384, None)]

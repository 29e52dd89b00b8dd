"""Simulates a history and stores it, for tenants of its own."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from multiprocessing import get_context

import uuid_utils
from sqlalchemy.orm import Session

from db import keys
from db.copies import copy_rows, new_ids
from db.models import Batch, Branch, Job, JobEvent, Problem, Refusal
from db.partitions import TABLES, Week, first_job_id, make_week, weeks_of
from db.reports.hours import mark_ended
from db.reports.rollups import due_days, roll_up_day
from db.session import SessionFactory, transaction
from db.workers import register_worker, stop_worker
from infra.simulated.fleets import TENANTS, Fleet, fleets
from infra.simulated.job_rows import event_rows, job_row, refusal_row
from infra.simulated.run import Ended, run
from infra.simulated.work_rows import Row, batch_row, branch_rows, problem_row
from scheduler.core.decisions import Rejected

SEED = 20261121


@dataclass(frozen=True, slots=True)
class Party:
    """A tenant that was made for the history, with a key to look at it."""

    name: str
    tenant_id: str
    api_key: str


@dataclass(slots=True)
class Loaded:
    """What was stored."""

    parties: tuple[Party, ...]
    num_jobs: int = 0
    num_refusals: int = 0
    num_problems: int = 0
    num_branches: int = 0


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows in the order in which they can refer to each other."""

    jobs: list[Row]
    refusals: list[Row]
    batches: list[Row]
    problems: list[Row]
    branches: list[Row]
    events: list[Row]


_TABLES = (Job, Refusal, Batch, Problem, Branch, JobEvent)


def load(sessions: SessionFactory, *, days: float, now: datetime, seed: int = SEED) -> Loaded:
    """Simulate the days before an instant and store what had ended by then."""
    begin = now - timedelta(days=days)
    simulated = [
        ended
        for fleet_ended in _simulate(fleets(days), begin, days, seed)
        for ended in fleet_ended
        if ended.at(ended.outcome.finish_s) <= now
    ]
    simulated.sort(key=lambda ended: ended.outcome.arrival_s)
    with transaction(sessions) as session:
        parties = tuple(_party(session, name, begin) for name in TENANTS)
        batch_ids = new_ids(session, Batch, sum(len(e.outcome.batches) for e in simulated))
        problem_ids = new_ids(session, Problem, sum(len(e.outcome.problems) for e in simulated))
    _make_weeks(sessions, begin, now)
    # Postgres does not wait long for a transaction that thinks.
    tenants = {party.name: party.tenant_id for party in parties}
    rows = _rows(simulated, tenants, iter(batch_ids), iter(problem_ids))
    with transaction(sessions) as session:
        _store_workers(session, fleets(days), begin, now)
        for table, field in zip(_TABLES, fields(rows), strict=True):
            copy_rows(session, table, getattr(rows, field.name))
        ends = (row["finished_at"] for row in (*rows.jobs, *rows.branches))
        mark_ended(session, {*ends, *(row["at"] for row in rows.refusals)})
    _roll_up(sessions, now)
    return Loaded(
        parties, len(rows.jobs), len(rows.refusals), len(rows.problems), len(rows.branches)
    )


def _make_weeks(sessions: SessionFactory, begin: datetime, now: datetime) -> None:
    """Rows that come before their week are moved into it later, while writers wait."""
    week = Week.of(begin)
    while week.start_at <= now:
        for table in TABLES:
            with transaction(sessions) as session:
                if week not in weeks_of(session, table):
                    make_week(session, table, week)
        week = Week(week.end_at)


def _simulate(
    fleets: Sequence[Fleet], begin: datetime, days: float, seed: int
) -> Iterator[list[Ended]]:
    """Each fleet in a process of its own."""
    with ProcessPoolExecutor(len(fleets), mp_context=get_context("spawn")) as pool:
        yield from pool.map(
            _run, *zip(*((fleet, begin, days, seed) for fleet in fleets), strict=True)
        )


def _run(fleet: Fleet, begin: datetime, days: float, seed: int) -> list[Ended]:
    return list(run(fleet, begin, days, seed))


def _party(session: Session, name: str, begin: datetime) -> Party:
    secret = keys.new_secret()
    tenant_id = keys.create_tenant(session, name=name, now=begin)
    keys.insert_api_key(
        session,
        tenant_id=tenant_id,
        key_sha256=keys.hash_secret(secret),
        label="simulated history",
        now=begin,
    )
    return Party(name, tenant_id, secret)


def _store_workers(
    session: Session, fleets: Sequence[Fleet], begin: datetime, now: datetime
) -> None:
    """The workers, stopped now, so that nothing is ever given to them."""
    for fleet in fleets:
        for worker in fleet.workers:
            register_worker(
                session,
                name=worker.name,
                incarnation="simulated",
                spec=worker.spec,
                latency=worker.believed_latency,
                answers=worker.believed_answers,
                now=begin,
            )
            stop_worker(session, name=worker.name, incarnation="simulated", now=now)


def _rows(
    simulated: Sequence[Ended],
    tenants: Mapping[str, str],
    batch_ids: Iterator[int],
    problem_ids: Iterator[int],
) -> _Rows:
    rows = _Rows([], [], [], [], [], [])
    for ended in simulated:
        verdict = ended.admission.verdict
        tenant = {"tenant_id": tenants[ended.outcome.tenant]}
        if isinstance(verdict, Rejected):
            rows.refusals.append(tenant | refusal_row(ended, verdict))
            continue
        job_id = _new_job_id(ended.at(ended.outcome.arrival_s))
        rows.jobs.append({"id": job_id} | tenant | job_row(ended, verdict))
        owned = {"job_id": job_id} | tenant
        rows.events.extend(owned | event for event in event_rows(ended, verdict))
        _add_work(rows, ended, job_id, batch_ids, problem_ids)
    rows.events.sort(key=lambda event: event["at"])
    return rows


def _new_job_id(created_at: datetime) -> str:
    """A UUIDv7 of that instant: the id of a job begins with when it was made."""
    return first_job_id(created_at) + uuid_utils.uuid7().hex[12:]


def _add_work(
    rows: _Rows, ended: Ended, job_id: str, batch_ids: Iterator[int], problem_ids: Iterator[int]
) -> None:
    position = 0
    for batch in ended.outcome.batches:
        members = range(position, position + batch.num_problems)
        position = members.stop
        ids = {"job_id": job_id, "batch_id": next(batch_ids)}
        rows.batches.append(
            {"id": ids["batch_id"], "job_id": job_id} | batch_row(ended, batch, members)
        )
        for member in members:
            problem_id = next(problem_ids)
            branches = branch_rows(ended, member, batch.worker_name)
            rows.problems.append(
                {"id": problem_id} | ids | problem_row(ended, member, batch, branches)
            )
            rows.branches.extend({"problem_id": problem_id} | ids | row for row in branches)
    for member in range(position, len(ended.outcome.problems)):
        ids = {"id": next(problem_ids), "job_id": job_id, "batch_id": None}
        rows.problems.append(ids | problem_row(ended, member, None, []))


def _roll_up(sessions: SessionFactory, now: datetime) -> None:
    """What the scheduler would do by and by, so that reports are fast at once."""
    with transaction(sessions) as session:
        days = due_days(session, now=now)
    for day in days:
        with transaction(sessions) as session:
            roll_up_day(session, day, now=now)

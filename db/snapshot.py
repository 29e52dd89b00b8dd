"""Reads what one tick decides on; see `scheduler.core.snapshot`.

What equals that of the read before is the same object (`db.last_read`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from operator import attrgetter
from typing import Any

from sqlalchemy import Row, select, text
from sqlalchemy.orm import Session

from db.arrivals import read_arrivals
from db.branches import COUNTED_REASONS
from db.last_read import Views, Workers
from db.learning import learned_profiles
from db.models import Tenant, Worker
from db.parts import live_parts
from scheduler.core.accuracy import AnswerProfile
from scheduler.core.decisions import RiskReason
from scheduler.core.plan import Plan
from scheduler.core.shrinkage import expected_answers
from scheduler.core.snapshot import (
    BatchView,
    JobView,
    Snapshot,
    WorkerView,
    most_branches,
)
from scheduler.core.states import BatchState, JobState

_FORGET_WORKER_AFTER = timedelta(hours=1)
"""A worker silent this long is left out, so that dead names do not pile up in every tick."""

_LIVE_JOBS = text("""
SELECT
    jobs.*,
    num_pending,
    num_in_flight
FROM jobs
CROSS JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE state = 'pending') AS num_pending,
        count(*) FILTER (WHERE state <> 'pending') AS num_in_flight
    FROM problems
    WHERE problems.job_id = jobs.id AND problems.finished_at IS NULL
) AS open
WHERE jobs.finished_at IS NULL AND jobs.state IN ('queued', 'running')
ORDER BY jobs.id
""")

_LIVE_BATCHES = text("""
SELECT
    batches.*,
    jobs.model,
    jobs.family,
    -- NULL, without a deadline of their own, is passed over.
    least(job_parts.deadline_at, jobs.deadline_at) AS deadline_at,
    jobs.mean_prompt_tokens,
    num_open_problems,
    num_open_branches
FROM batches
JOIN jobs ON jobs.id = batches.job_id
LEFT JOIN job_parts ON job_parts.job_id = batches.job_id AND job_parts.part = batches.part
CROSS JOIN LATERAL (
    SELECT
        count(*) AS num_open_problems,
        coalesce(
            sum(
                greatest(
                    -- Under a successive plan a branch that ended is followed by another.
                    least(
                        batches.num_branches,
                        greatest(batches.num_branches, batches.max_branches) - num_finished
                    ),
                    0
                )
            ),
            0
        ) AS num_open_branches
    FROM problems
    CROSS JOIN LATERAL (
        SELECT count(*) AS num_finished
        FROM branches
        WHERE branches.problem_id = problems.id AND branches.job_id = batches.job_id
            AND branches.finish_reason = ANY(:finished)
    ) AS done
    WHERE problems.batch_id = batches.id AND problems.finished_at IS NULL
) AS open
WHERE batches.state IN ('planned', 'claimed')
ORDER BY batches.id
""")


_JOBS: Views[JobView] = Views(attrgetter("key"))
_BATCHES: Views[BatchView] = Views(attrgetter("id"))
_WORKERS = Workers()


def read_snapshot(session: Session, now: datetime) -> Snapshot:
    """Live jobs, live batches and present workers, without prompts or problem ids.

    Jobs that are being cancelled get no plans and are left out; their batches still hold rows of
    a worker and are in. A worker of another release, whose profiles cannot be read, is left out
    like one that is gone, so that it stops no other. Ask for REPEATABLE READ when the three must
    agree to the row.
    """
    jobs, parts = session.execute(_LIVE_JOBS), live_parts(session)
    batches = session.execute(_LIVE_BATCHES, {"finished": list(COUNTED_REASONS)})
    learned = learned_profiles(session)

    @cache
    def answers_of(model: str, family: str) -> AnswerProfile | None:
        return expected_answers(model, family, learned)

    tenant_shares = _tenant_shares(session)
    shares = dict(tenant_shares)
    return Snapshot(
        now=now,
        jobs=_JOBS.same(
            view
            for row in jobs
            for view in with_parts(
                _job_view(row, answers_of(row.model, row.family), shares[row.tenant_id]),
                parts.get(row.id, ()),
            )
        ),
        batches=_BATCHES.same(
            _batch_view(row, answers_of(row.model, row.family)) for row in batches
        ),
        learned=learned,
        tenant_shares=tenant_shares,
        arrivals=read_arrivals(session, now),
        workers=read_workers(session, now),
    )


def read_workers(session: Session, now: datetime) -> tuple[WorkerView, ...]:
    """Present workers, in order of name."""
    workers = session.scalars(
        select(Worker)
        .where(Worker.stopped_at.is_(None), Worker.heartbeat_at > now - _FORGET_WORKER_AFTER)
        .order_by(Worker.name)
    )
    return _WORKERS.views(workers)


def _tenant_shares(session: Session) -> tuple[tuple[str, float], ...]:
    tenants = session.execute(select(Tenant.id, Tenant.weight).order_by(Tenant.id)).all()
    total = sum(tenant.weight for tenant in tenants)
    return tuple((tenant.id, tenant.weight / total) for tenant in tenants)


def _job_view(row: Row[tuple[object, ...]], answers: AnswerProfile | None, share: float) -> JobView:
    return JobView(
        id=row.id,
        tenant_id=row.tenant_id,
        model=row.model,
        state=JobState(row.state),
        created_at=row.created_at,
        deadline_at=row.deadline_at,
        weight=row.weight,
        max_branches=most_branches(row.max_branches, row.temperature),
        max_tokens=row.max_tokens,
        min_accuracy=row.min_accuracy,
        mean_prompt_tokens=row.mean_prompt_tokens,
        num_pending=row.num_pending,
        num_in_flight=row.num_in_flight,
        tenant_share=share,
        num_problems=row.num_problems,
        answers=answers,
        is_promised=row.is_promised,
        **_planned(row),
    )


def with_parts(job: JobView, parts: Iterable[Row[tuple[object, ...]]]) -> Iterator[JobView]:
    """A job without its parts, and those that have open problems.

    Args:
        job: With the counts of all its problems.
        parts: Rows of `job_parts` with their counts.
    """
    views = [
        replace(
            job,
            part=row.part,
            deadline_at=min(row.deadline_at, job.deadline_at),
            num_pending=row.num_pending,
            num_in_flight=row.num_in_flight,
            # As at submission, each counts the others among those that come.
            num_problems=row.num_problems,
            **_planned(row),
        )
        for row in parts
    ]
    yield (
        replace(
            job,
            num_problems=job.num_problems - sum(view.num_problems for view in views),
            num_pending=job.num_pending - sum(view.num_pending for view in views),
            num_in_flight=job.num_in_flight - sum(view.num_in_flight for view in views),
        )
        if views
        else job
    )
    yield from views


def _planned(row: Row[tuple[object, ...]]) -> dict[str, Any]:
    """What a view has of the columns of `PlannedColumns`."""
    plan = None
    if row.num_branches is not None:
        plan = Plan(
            num_branches=row.num_branches,
            num_speculative_tokens=row.num_speculative_tokens,
            max_tokens=row.plan_max_tokens,
            wave_size=row.wave_size,
            stop_gain=row.stop_gain,
            max_branches=row.plan_max_branches,
        )
    return {
        "plan": plan,
        "promised_at": row.admitted_finish_p95_at,
        "predicted_at": row.predicted_finish_p95_at,
        "risk": None if row.risk_reason is None else RiskReason(row.risk_reason),
    }


def _batch_view(row: Row[tuple[object, ...]], answers: AnswerProfile | None) -> BatchView:
    return BatchView(
        id=row.id,
        job_id=row.job_id,
        model=row.model,
        worker_name=row.worker_name,
        state=BatchState(row.state),
        plan=Plan(
            num_branches=row.num_branches,
            num_speculative_tokens=row.num_speculative_tokens,
            max_tokens=row.max_tokens,
            wave_size=row.wave_size,
            stop_gain=row.stop_gain,
            max_branches=row.max_branches,
        ),
        deadline_at=row.deadline_at,
        created_at=row.created_at,
        sent_at=row.sent_at,
        lease_expires_at=row.lease_expires_at,
        lease_owner=row.lease_owner,
        num_open_problems=row.num_open_problems,
        num_open_branches=int(row.num_open_branches),
        mean_prompt_tokens=row.mean_prompt_tokens,
        answers=answers,
        part=row.part,
    )

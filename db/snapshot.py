"""Reads what one tick decides on; see `scheduler.core.snapshot`.

What equals that of the read before is the same object (`db.last_read`).
"""

from datetime import datetime, timedelta
from functools import cache
from itertools import groupby
from operator import attrgetter

from sqlalchemy import Row, select, text
from sqlalchemy.orm import Session

from db.branches import COUNTED_REASONS
from db.last_read import Views, Workers
from db.learning import learned_profiles
from db.models import Tenant, Worker
from scheduler.core.accuracy import AnswerProfile
from scheduler.core.decisions import RiskReason
from scheduler.core.plan import Plan
from scheduler.core.shrinkage import expected_answers
from scheduler.core.snapshot import (
    ARRIVAL_WINDOW_S,
    Arrivals,
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

_ARRIVALS = text("""
SELECT
    model,
    min(at) AS first_at,
    sum(num_problems) AS num_problems,
    coalesce(sum(num_problems) FILTER (WHERE is_promised), 0) AS num_promised,
    sum(num_problems * given_s) / sum(num_problems) AS given_s
FROM (
    SELECT
        model,
        num_problems,
        is_promised,
        created_at AS at,
        extract(EPOCH FROM deadline_at - created_at)::float8 AS given_s
    FROM jobs
    UNION ALL
    SELECT
        model,
        num_problems,
        FALSE AS is_promised,
        at,
        extract(EPOCH FROM deadline_at - at)::float8 AS given_s
    FROM refusals
) AS submitted
WHERE at > :since
GROUP BY model, floor(ln(greatest(given_s, 1)) / ln(2))
ORDER BY model, given_s
""")

_LIVE_BATCHES = text("""
SELECT
    batches.*,
    jobs.model,
    jobs.family,
    jobs.deadline_at,
    jobs.mean_prompt_tokens,
    num_open_problems,
    num_open_branches
FROM batches
JOIN jobs ON jobs.id = batches.job_id
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


_JOBS: Views[JobView] = Views()
_BATCHES: Views[BatchView] = Views()
_WORKERS = Workers()


def read_snapshot(session: Session, now: datetime) -> Snapshot:
    """Live jobs, live batches and present workers, without prompts or problem ids.

    Jobs that are being cancelled get no plans and are left out; their batches still hold rows of
    a worker and are in. A worker of another release, whose profiles cannot be read, is left out
    like one that is gone, so that it stops no other. Ask for REPEATABLE READ when the three must
    agree to the row.
    """
    jobs = session.execute(_LIVE_JOBS)
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
            _job_view(row, answers_of(row.model, row.family), shares[row.tenant_id]) for row in jobs
        ),
        batches=_BATCHES.same(
            _batch_view(row, answers_of(row.model, row.family)) for row in batches
        ),
        learned=learned,
        tenant_shares=tenant_shares,
        arrivals=_arrivals(session, now),
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


def _arrivals(session: Session, now: datetime) -> tuple[tuple[str, Arrivals], ...]:
    rows = session.execute(_ARRIVALS, {"since": now - timedelta(seconds=ARRIVAL_WINDOW_S)})
    by_model = {model: list(mine) for model, mine in groupby(rows, key=attrgetter("model"))}
    return tuple(
        (
            model,
            Arrivals.since(
                (now - min(row.first_at for row in mine)).total_seconds(),
                ((row.given_s, row.num_problems) for row in mine),
                ((row.given_s, row.num_promised) for row in mine if row.num_promised),
            ),
        )
        for model, mine in by_model.items()
    )


def _tenant_shares(session: Session) -> tuple[tuple[str, float], ...]:
    tenants = session.execute(select(Tenant.id, Tenant.weight).order_by(Tenant.id)).all()
    total = sum(tenant.weight for tenant in tenants)
    return tuple((tenant.id, tenant.weight / total) for tenant in tenants)


def _job_view(row: Row[tuple[object, ...]], answers: AnswerProfile | None, share: float) -> JobView:
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
        plan=plan,
        tenant_share=share,
        num_problems=row.num_problems,
        promised_at=row.admitted_finish_p95_at,
        predicted_at=row.predicted_finish_p95_at,
        answers=answers,
        is_promised=row.is_promised,
        risk=None if row.risk_reason is None else RiskReason(row.risk_reason),
    )


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
    )

"""Batches: given out by the scheduler, closed by it or by the worker that claimed them."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from db import events
from db.expiry import fail_lost_problems
from db.leases import lock_batches
from db.models import Batch, Problem
from db.problems import batch_outcome, count_losses, release_problems
from db.reports.hours import mark_ended
from scheduler.core.decisions import LossReason
from scheduler.core.event_kinds import EventKind
from scheduler.core.plan import Plan
from scheduler.core.states import (
    BATCH_TRANSITIONS,
    LIVE,
    BatchState,
    sources_of,
)

# `pending`, the one source of `dispatched`, is a literal so that its partial index gives the order.
_CREATE_BATCH = text("""
WITH job AS (
    SELECT
        coalesce(job_parts.predicted_finish_at, jobs.predicted_finish_at) AS predicted_finish_at,
        coalesce(job_parts.predicted_accuracy, jobs.predicted_accuracy) AS predicted_accuracy
    FROM jobs
    LEFT JOIN job_parts ON job_parts.job_id = jobs.id AND job_parts.part = :part
    WHERE jobs.id = :job_id AND jobs.state = ANY(:live_states)
), picked AS (
    SELECT id
    FROM problems
    WHERE job_id = :job_id AND part = :part AND state = 'pending' AND EXISTS (SELECT FROM job)
    ORDER BY position
    LIMIT :num_problems
    FOR NO KEY UPDATE SKIP LOCKED
), batch AS (
    INSERT INTO batches (
        job_id, part, worker_name, state, num_problems, num_branches, num_speculative_tokens,
        max_tokens, wave_size, stop_gain, max_branches, created_at
    )
    SELECT :job_id, :part, :worker_name, 'planned', count(*), :num_branches,
        :num_speculative_tokens, :max_tokens, :wave_size, :stop_gain, :max_branches, :now
    FROM picked
    HAVING count(*) > 0
    RETURNING id, num_problems
), dispatched AS (
    UPDATE problems
    SET state = 'dispatched',
        batch_id = batch.id,
        dispatched_at = :now,
        num_branches = :most_branches,
        num_speculative_tokens = :num_speculative_tokens,
        max_tokens = :max_tokens,
        predicted_finish_at = job.predicted_finish_at,
        predicted_accuracy = job.predicted_accuracy
    FROM picked, batch, job
    WHERE problems.id = picked.id
)
SELECT id, num_problems FROM batch
""")


def create_batch(
    session: Session,
    *,
    job_id: str,
    worker_name: str,
    plan: Plan,
    num_problems: int,
    now: datetime,
    part: int = 0,
) -> int | None:
    """Give the first pending problems of a live job to a worker; None when there are none.

    Args:
        part: Of the job, which its problems belong to.
    """
    created = session.execute(
        _CREATE_BATCH,
        {
            "job_id": job_id,
            "part": part,
            "worker_name": worker_name,
            "num_problems": num_problems,
            **asdict(plan),
            "most_branches": plan.most_branches,
            "live_states": list(LIVE),
            "now": now,
        },
    ).first()
    if created is None:
        return None
    events.record(
        session,
        job_id=job_id,
        kind=EventKind.BATCH_PLANNED,
        data={"batch_id": created.id, "worker": worker_name, **asdict(plan)}
        | {"num_problems": created.num_problems},
        now=now,
    )
    return int(created.id)


def mark_sent(session: Session, batch_ids: Sequence[int], *, now: datetime) -> None:
    """Note when the messages of planned batches left for the broker."""
    session.execute(
        update(Batch)
        .where(
            Batch.id.in_(lock_batches(session, Batch.id.in_(batch_ids))),
            Batch.state == BatchState.PLANNED,
        )
        .values(sent_at=now)
    )


def finish_batch(session: Session, *, batch_id: int, epoch: int, now: datetime) -> bool:
    """Close a claimed batch of this epoch; problems without an outcome become pending again."""
    job_id = session.scalar(
        update(Batch)
        .where(
            Batch.id == batch_id,
            Batch.epoch == epoch,
            Batch.state.in_(sources_of(BatchState.DONE, BATCH_TRANSITIONS)),
        )
        .values(state=BatchState.DONE, finished_at=now)
        .returning(Batch.job_id)
    )
    if job_id is None:
        return False
    num_released = release_problems(session, [batch_id])
    events.record(
        session,
        job_id=job_id,
        kind=EventKind.BATCH_DONE,
        data={"batch_id": batch_id, "num_released": num_released}
        | asdict(batch_outcome(session, batch_id)),
        now=now,
    )
    return True


def lose_batches(
    session: Session,
    batch_ids: Sequence[int],
    *,
    now: datetime,
    reason: LossReason = LossReason.GIVEN_BACK,
    max_losses: int | None = None,
) -> list[int]:
    """Rescue: take live batches from their workers; open problems become pending again.

    Args:
        reason: Why, for the history of the jobs.
        max_losses: Count the loss against the problems that a worker had claimed, and close those
            lost so often; None when the worker gave the batches back by itself.
    """
    locked = lock_batches(session, Batch.id.in_(batch_ids))
    lost = _close(session, locked, BatchState.LOST, now, {"reason": reason})
    if max_losses is not None and lost:
        count_losses(session, lost)
        fail_lost_problems(session, lost, max_losses=max_losses, now=now)
    cancelled_at = session.scalars(_CANCELLED_AT, {"batch_ids": lost}).all() if lost else ()
    release_problems(session, lost)
    # What was cancelled in them is lost now, which is another cost.
    mark_ended(session, cancelled_at)
    return lost


_CANCELLED_AT = text("""
SELECT DISTINCT date_trunc('hour', branches.finished_at, 'UTC')
FROM problems JOIN branches ON branches.problem_id = problems.id
    AND branches.job_id = problems.job_id AND branches.batch_id = problems.batch_id
WHERE problems.batch_id = ANY(:batch_ids) AND finish_reason = 'abort'
""")


def cancel_job_batches(
    session: Session, job_id: str, *, now: datetime, part: int | None = None
) -> list[int]:
    """Take the live batches of a job from their workers; the caller closes the problems.

    Args:
        part: Of the job, whose batches are meant; None for all.
    """
    of_part = () if part is None else (Batch.part == part,)
    live = lock_batches(session, Batch.job_id == job_id, Batch.finished_at.is_(None), *of_part)
    return _close(session, live, BatchState.CANCELLED, now, {})


def _close(
    session: Session,
    batch_ids: Sequence[int],
    state: BatchState,
    now: datetime,
    why: dict[str, str],
) -> list[int]:
    """Move live ones of the locked batches to a terminal state; returns those that moved."""
    num_open = (
        select(func.count())
        .select_from(Problem)
        .where(Problem.batch_id == Batch.id, Problem.finished_at.is_(None))
        .correlate(Batch)
        .scalar_subquery()
    )
    closed = session.execute(
        update(Batch)
        .where(Batch.id.in_(batch_ids), Batch.state.in_(sources_of(state, BATCH_TRANSITIONS)))
        .values(state=state, finished_at=now)
        .returning(Batch.id, Batch.job_id, Batch.worker_name, num_open.label("num_open"))
    ).all()
    kind = EventKind.of_batch(state)
    events.record_all(
        session,
        (
            events.Event(
                row.job_id,
                kind,
                {"batch_id": row.id, "worker": row.worker_name, "num_open": row.num_open} | why,
            )
            for row in closed
        ),
        now=now,
    )
    return sorted(row.id for row in closed)

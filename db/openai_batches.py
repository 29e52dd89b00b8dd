"""OpenAI batches: created, validated by one claim at a time, and the jobs that do their work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, insert, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from db.deliveries import Notice, announce
from db.models import Job, OpenaiBatch, OpenaiBatchJob
from scheduler.core.deliveries import WebhookKind
from scheduler.core.states import OpenaiBatchState

_RUNNING = (
    OpenaiBatchState.IN_PROGRESS,
    OpenaiBatchState.FINALIZING,
    OpenaiBatchState.CANCELLING,
)


@dataclass(frozen=True, slots=True)
class NewOpenaiBatch:
    """A batch whose file has not been read; the units are those of `db.models.OpenaiBatch`."""

    id: str
    tenant_id: str
    idempotency_key: str | None
    request_sha256: str
    endpoint: str
    input_file_id: str
    completion_window: str
    labels: dict[str, Any] | None
    options: dict[str, Any]
    output_expires_after_s: int
    output_file_id: str
    error_file_id: str
    created_at: datetime
    expires_at: datetime
    traceparent: str | None = None


def insert_openai_batch(session: Session, batch: NewOpenaiBatch) -> OpenaiBatch:
    """Store a batch, or find the one that was made with the same idempotency key."""
    values = {name: getattr(batch, name) for name in batch.__slots__}
    statement = upsert(OpenaiBatch).values(**values, state=OpenaiBatchState.VALIDATING)
    stored: OpenaiBatch | None = session.scalar(
        statement.on_conflict_do_nothing(
            index_elements=[OpenaiBatch.tenant_id, OpenaiBatch.idempotency_key]
        ).returning(OpenaiBatch)
    )
    if stored is not None:
        return stored
    return session.scalars(
        select(OpenaiBatch).where(
            OpenaiBatch.tenant_id == batch.tenant_id,
            OpenaiBatch.idempotency_key == batch.idempotency_key,
        )
    ).one()


def find_equal_batch(
    session: Session, tenant_id: str, request_sha256: str, *, since: datetime
) -> OpenaiBatch | None:
    """A batch that the same request made after an instant, if it is live or completed."""
    return session.scalar(
        select(OpenaiBatch)
        .where(
            OpenaiBatch.tenant_id == tenant_id,
            OpenaiBatch.created_at > since,
            OpenaiBatch.request_sha256 == request_sha256,
            OpenaiBatch.state.in_(
                (OpenaiBatchState.VALIDATING, *_RUNNING[:2], OpenaiBatchState.COMPLETED)
            ),
        )
        .order_by(OpenaiBatch.created_at)
        .limit(1)
    )


def get_openai_batch(session: Session, tenant_id: str, batch_id: str) -> OpenaiBatch | None:
    """The tenant's batch; None when there is none, or it is another tenant's."""
    return session.scalar(
        select(OpenaiBatch).where(OpenaiBatch.id == batch_id, OpenaiBatch.tenant_id == tenant_id)
    )


def batch_of_file(session: Session, tenant_id: str, file_id: str) -> OpenaiBatch | None:
    """The tenant's unfinished batch that will write this file; None when there is none."""
    return session.scalar(
        select(OpenaiBatch).where(
            OpenaiBatch.tenant_id == tenant_id,
            OpenaiBatch.state.in_(_RUNNING),
            or_(OpenaiBatch.output_file_id == file_id, OpenaiBatch.error_file_id == file_id),
        )
    )


def list_openai_batches(
    session: Session, tenant_id: str, *, limit: int, after: OpenaiBatch | None = None
) -> list[OpenaiBatch]:
    """The tenant's batches, newest first, beginning behind `after`."""
    statement = select(OpenaiBatch).where(OpenaiBatch.tenant_id == tenant_id)
    if after is not None:
        place = tuple_(OpenaiBatch.created_at, OpenaiBatch.id)
        statement = statement.where(place < tuple_(after.created_at, after.id))
    newest = (OpenaiBatch.created_at.desc(), OpenaiBatch.id.desc())
    return list(session.scalars(statement.order_by(*newest).limit(limit)))


@dataclass(frozen=True, slots=True)
class RecentBatches:
    """How many batches were created of late, and when the first of them was."""

    number: int
    first_at: datetime


def recently_created(session: Session, tenant_id: str, since: datetime) -> RecentBatches:
    """The tenant's batches created after an instant."""
    number, first_at = session.execute(
        select(func.count(), func.min(OpenaiBatch.created_at)).where(
            OpenaiBatch.tenant_id == tenant_id, OpenaiBatch.created_at > since
        )
    ).one()
    return RecentBatches(number, first_at or since)


def claim_validation(session: Session, *, lease_s: float, now: datetime) -> OpenaiBatch | None:
    """Take the most urgent batch that nobody validates; None when there is none."""
    free = (
        select(OpenaiBatch.id)
        .where(
            OpenaiBatch.state == OpenaiBatchState.VALIDATING,
            func.coalesce(OpenaiBatch.claimed_until <= now, True),
        )
        .order_by(OpenaiBatch.expires_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    return session.scalar(
        update(OpenaiBatch)
        # Not IN, for which the subquery may run, and so lock, more than once.
        .where(OpenaiBatch.id == free.scalar_subquery())
        .values(epoch=OpenaiBatch.epoch + 1, claimed_until=now + timedelta(seconds=lease_s))
        .returning(OpenaiBatch)
    )


def renew_validation(
    session: Session, batch: OpenaiBatch, *, lease_s: float, now: datetime
) -> bool:
    """Go on with a batch, or look at it again after `lease_s`; False when it is no longer ours."""
    return _update_validating(session, batch, claimed_until=now + timedelta(seconds=lease_s))


def start_batch(
    session: Session, batch: OpenaiBatch, *, model: str, num_lines: int, now: datetime
) -> bool:
    """Move a validated batch to in_progress, before its jobs are stored; False when not ours."""
    return _update_validating(
        session,
        batch,
        state=OpenaiBatchState.IN_PROGRESS,
        in_progress_at=now,
        model=model,
        num_lines=num_lines,
        claimed_until=None,
    )


def fail_batch(
    session: Session, batch: OpenaiBatch, errors: Sequence[Mapping[str, Any]], *, now: datetime
) -> bool:
    """End a batch that is not valid; False when it is no longer ours."""
    is_ours = _update_validating(
        session, batch, state=OpenaiBatchState.FAILED, failed_at=now, errors=list(errors)
    )
    if is_ours:
        announce(session, [Notice(batch.id, WebhookKind.BATCH_FAILED)], now=now)
    return is_ours


def _update_validating(session: Session, batch: OpenaiBatch, **values: Any) -> bool:
    updated = session.scalar(
        update(OpenaiBatch)
        .where(
            OpenaiBatch.id == batch.id,
            OpenaiBatch.state == OpenaiBatchState.VALIDATING,
            OpenaiBatch.epoch == batch.epoch,
        )
        .values(**values)
        .returning(OpenaiBatch.id)
        .execution_options(synchronize_session=False)
    )
    return updated is not None


def insert_batch_job(session: Session, batch_id: str, job_id: str) -> None:
    """Note that a job does work of a batch."""
    session.execute(insert(OpenaiBatchJob).values(batch_id=batch_id, job_id=job_id))


def jobs_of(session: Session, batch_ids: Sequence[str]) -> dict[str, list[Job]]:
    """The jobs of each batch, in the order in which they were stored."""
    rows = session.execute(
        select(OpenaiBatchJob.batch_id, Job)
        .join(Job, Job.id == OpenaiBatchJob.job_id)
        .where(OpenaiBatchJob.batch_id.in_(batch_ids))
        .order_by(Job.id)
    )
    found: dict[str, list[Job]] = {batch_id: [] for batch_id in batch_ids}
    for batch_id, job in rows:
        found[batch_id].append(job)
    return found

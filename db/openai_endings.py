"""How OpenAI batches end: by their jobs, by a cancel, or before anything ran."""

from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session

from db import jobs
from db.deliveries import Notice, announce
from db.models import Job, OpenaiBatch, OpenaiBatchJob
from db.openai_batches import jobs_of
from scheduler.core.deliveries import WebhookKind
from scheduler.core.states import LIVE, OPENAI_BATCH_TRANSITIONS, OpenaiBatchState, sources_of


def expire_validating(session: Session, *, now: datetime) -> list[str]:
    """End batches whose window was over before anything ran; returns their ids."""
    expired = list(
        session.scalars(
            update(OpenaiBatch)
            .where(OpenaiBatch.state == OpenaiBatchState.VALIDATING, OpenaiBatch.expires_at <= now)
            .values(state=OpenaiBatchState.EXPIRED, expired_at=now, num_completed=0, num_failed=0)
            .returning(OpenaiBatch.id)
            .execution_options(synchronize_session=False)
        )
    )
    told = [Notice(batch_id, WebhookKind.BATCH_EXPIRED) for batch_id in expired]
    announce(session, told, now=now)
    return expired


def request_batch_cancel(session: Session, tenant_id: str, batch_id: str, *, now: datetime) -> bool:
    """Ask for the end of a batch of the tenant, and of its jobs; False when there is nothing to do.

    A batch that nothing runs for yet is cancelled at once.
    """
    mine = (OpenaiBatch.id == batch_id, OpenaiBatch.tenant_id == tenant_id)
    validating = OpenaiBatch.state == OpenaiBatchState.VALIDATING
    ended = session.scalar(
        update(OpenaiBatch)
        .where(*mine, validating)
        .values(
            state=OpenaiBatchState.CANCELLED,
            cancelling_at=now,
            cancelled_at=now,
            num_completed=0,
            num_failed=0,
        )
        .returning(OpenaiBatch.id)
        .execution_options(synchronize_session=False)
    )
    if ended is not None:
        announce(session, [Notice(batch_id, WebhookKind.BATCH_CANCELLED)], now=now)
        return True
    asked = session.scalar(
        update(OpenaiBatch)
        .where(*mine, OpenaiBatch.state.in_(_sources(OpenaiBatchState.CANCELLING)))
        .values(state=OpenaiBatchState.CANCELLING, cancelling_at=now)
        .returning(OpenaiBatch.id)
        .execution_options(synchronize_session=False)
    )
    if asked is None:
        return False
    for job in jobs_of(session, [batch_id])[batch_id]:
        if job.state in LIVE:
            jobs.request_cancel(session, tenant_id, job.id, now=now)
    return True


def finalize_batches(session: Session, *, now: datetime) -> list[str]:
    """Move batches whose jobs have all ended to finalizing; returns their ids."""
    return list(
        session.scalars(
            update(OpenaiBatch)
            .where(
                OpenaiBatch.state.in_(_sources(OpenaiBatchState.FINALIZING)),
                ~_open_jobs(),
            )
            .values(state=OpenaiBatchState.FINALIZING, finalizing_at=now)
            .returning(OpenaiBatch.id)
            .execution_options(synchronize_session=False)
        )
    )


def hold_ended_batch(session: Session, *, now: datetime) -> OpenaiBatch | None:
    """Lock a batch whose files are to be written until the commit; None when there is none.

    One that was put off is left alone until then.
    """
    return session.scalar(
        select(OpenaiBatch)
        .where(
            or_(
                OpenaiBatch.state == OpenaiBatchState.FINALIZING,
                and_(OpenaiBatch.state == OpenaiBatchState.CANCELLING, ~_open_jobs()),
            ),
            func.coalesce(OpenaiBatch.claimed_until <= now, True),
        )
        .order_by(OpenaiBatch.expires_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


def put_off_ending(session: Session, batch: OpenaiBatch, *, until: datetime) -> None:
    """Let others end first, after the files of this batch could not be written."""
    session.execute(
        update(OpenaiBatch)
        .where(OpenaiBatch.id == batch.id, OpenaiBatch.epoch == batch.epoch)
        .values(epoch=OpenaiBatch.epoch + 1, claimed_until=until)
        .execution_options(synchronize_session=False)
    )


def end_batch(
    session: Session,
    batch_id: str,
    state: OpenaiBatchState,
    *,
    num_completed: int,
    num_failed: int,
    input_tokens: int,
    output_tokens: int,
    now: datetime,
) -> bool:
    """End a batch whose files are written; False when another did."""
    ended = session.scalar(
        update(OpenaiBatch)
        .where(OpenaiBatch.id == batch_id, OpenaiBatch.state.in_(_sources(state)))
        .values(
            state=state,
            num_completed=num_completed,
            num_failed=num_failed,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            **{f"{state.value}_at": now},
        )
        .returning(OpenaiBatch.id)
        .execution_options(synchronize_session=False)
    )
    if ended is None:
        return False
    announce(session, [Notice(batch_id, WebhookKind(f"batch.{state}"))], now=now)
    return True


def _sources(state: OpenaiBatchState) -> tuple[OpenaiBatchState, ...]:
    return sources_of(state, OPENAI_BATCH_TRANSITIONS)


def _open_jobs() -> ColumnElement[bool]:
    """Whether a job of the batch has not ended."""
    return (
        select(OpenaiBatchJob.job_id)
        .join(Job, Job.id == OpenaiBatchJob.job_id)
        .where(OpenaiBatchJob.batch_id == OpenaiBatch.id, Job.finished_at.is_(None))
        .exists()
    )

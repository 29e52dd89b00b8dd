"""The right to work on a batch: held by its epoch, renewed by its owner, ended under its lock."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, select, text, update
from sqlalchemy.orm import Session

from db.models import Batch, Job
from db.parts import batch_deadline
from scheduler.core.states import BatchState

HELD_BATCH = """
SELECT id, job_id, worker_name
FROM batches
WHERE id = :batch_id AND epoch = :epoch AND state = 'claimed'
FOR NO KEY UPDATE
"""
"""The claimed batch of this epoch, locked against rescue until the commit; no row when it is lost.
What writes its results begins with it, in one round trip: each is time that the engine, which
shares a process with the writer, lacks."""


def hold_batch(session: Session, *, batch_id: int, epoch: int) -> bool:
    """Lock a claimed batch of this epoch against rescue until the commit; False when it is lost."""
    held = session.execute(text(HELD_BATCH), {"batch_id": batch_id, "epoch": epoch})
    return held.first() is not None


def renew_leases(
    session: Session, batch_ids: Sequence[int], *, owner: str, lease_s: float, now: datetime
) -> dict[int, datetime]:
    """Extend the leases among these that the owner still holds; the rest is lost.

    Returns:
        The deadlines by batch, which may have been changed since the claim.
    """
    is_held = (Batch.lease_owner == owner, Batch.state == BatchState.CLAIMED)
    held = lock_batches(session, Batch.id.in_(batch_ids), *is_held)
    session.execute(
        update(Batch)
        .where(Batch.id.in_(held), Batch.state == BatchState.CLAIMED)
        .values(lease_expires_at=now + timedelta(seconds=lease_s))
    )
    deadlines = select(Batch.id, batch_deadline()).join(Job, Batch.job_id == Job.id)
    return {row[0]: row[1] for row in session.execute(deadlines.where(Batch.id.in_(held)))}


def lock_batches(session: Session, *conditions: ColumnElement[bool]) -> list[int]:
    """Lock the batches that meet the conditions, ascending by id; returns their ids."""
    return list(
        session.scalars(
            select(Batch.id).where(*conditions).order_by(Batch.id).with_for_update(key_share=True)
        )
    )

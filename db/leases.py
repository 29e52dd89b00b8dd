"""The right to work on a batch: held by its epoch, renewed by its owner, ended under its lock."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from db.models import Batch, Job
from scheduler.core.states import BatchState


@dataclass(frozen=True, slots=True)
class HeldBatch:
    """The columns of a held batch that its results carry."""

    job_id: str
    worker_name: str


def hold_batch(session: Session, *, batch_id: int, epoch: int) -> HeldBatch | None:
    """Lock a claimed batch of this epoch against rescue until the commit; None when it is lost."""
    held = session.execute(
        select(Batch.job_id, Batch.worker_name)
        .where(Batch.id == batch_id, Batch.epoch == epoch, Batch.state == BatchState.CLAIMED)
        .with_for_update(key_share=True)
    ).first()
    return None if held is None else HeldBatch(held.job_id, held.worker_name)


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
    deadlines = select(Batch.id, Job.deadline_at).join(Job, Batch.job_id == Job.id)
    return {row.id: row.deadline_at for row in session.execute(deadlines.where(Batch.id.in_(held)))}


def lock_batches(session: Session, *conditions: ColumnElement[bool]) -> list[int]:
    """Lock the batches that meet the conditions, ascending by id; returns their ids."""
    return list(
        session.scalars(
            select(Batch.id).where(*conditions).order_by(Batch.id).with_for_update(key_share=True)
        )
    )

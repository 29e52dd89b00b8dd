"""The right to write results: a claimed batch, held by its epoch."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Batch
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

"""Ends batches: writes their files and sets their last state, in one transaction."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import chain

from sqlalchemy.orm import Session

from api.dependencies import utc_now
from api.openai.output import answered_lines, failed_lines
from api.openai.retries import retry_wait
from api.schemas.files import BATCH_OUTPUT
from db.files import NewFile, delete_expired_files, store_file
from db.models import OpenaiBatch
from db.openai_batches import jobs_of
from db.openai_endings import (
    end_batch,
    expire_validating,
    finalize_batches,
    hold_ended_batch,
    put_off_ending,
)
from db.session import SessionFactory, transaction
from scheduler.core.states import JobState, OpenaiBatchState


class Closing:
    """Finishes batches whose jobs have ended, and drops files whose time is over."""

    def __init__(self, sessions: SessionFactory) -> None:
        self._sessions = sessions

    def step(self) -> bool:
        """End one batch; False when there is none.

        One whose files cannot be written is put off, so that it does not stand before all others.
        """
        now = utc_now()
        for due in (expire_validating, finalize_batches, delete_expired_files):
            with transaction(self._sessions) as session:
                due(session, now=now)
        batch = None
        try:
            with transaction(self._sessions) as session:
                batch = hold_ended_batch(session, now=now)
                if batch is not None:
                    session.expunge(batch)  # A rollback would take its values along.
                    self._end(session, batch, now)
        except Exception:
            if batch is not None:
                with transaction(self._sessions) as session:
                    put_off_ending(session, batch, until=now + retry_wait(batch))
            raise
        return batch is not None

    def _end(self, session: Session, batch: OpenaiBatch, now: datetime) -> None:
        """Write the files of a batch that this transaction has locked.

        Lines are read in other transactions: nothing of an ended job changes any more.
        """
        num_completed = num_failed = input_tokens = output_tokens = 0

        def output() -> Iterator[bytes]:
            nonlocal num_completed, input_tokens, output_tokens
            for result, line in answered_lines(self._sessions, batch):
                num_completed += 1
                input_tokens += result.prompt_tokens or 0
                output_tokens += result.completion_tokens
                yield line

        def errors() -> Iterator[bytes]:
            nonlocal num_failed
            for line in failed_lines(self._sessions, batch):
                num_failed += 1
                yield line

        _write(session, batch, batch.output_file_id, "output", output(), now)
        _write(session, batch, batch.error_file_id, "error", errors(), now)
        end_batch(
            session,
            batch.id,
            self._last_state(session, batch),
            num_completed=num_completed,
            num_failed=num_failed,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            now=utc_now(),
        )

    def _last_state(self, session: Session, batch: OpenaiBatch) -> OpenaiBatchState:
        if batch.state == OpenaiBatchState.CANCELLING:
            return OpenaiBatchState.CANCELLED
        # Lines may have deadlines of their own; only the window makes the batch expire.
        is_over = any(
            job.state == JobState.EXPIRED and job.deadline_at >= batch.expires_at
            for job in jobs_of(session, [batch.id])[batch.id]
        )
        return OpenaiBatchState.EXPIRED if is_over else OpenaiBatchState.COMPLETED


def _write(
    session: Session,
    batch: OpenaiBatch,
    file_id: str,
    what: str,
    lines: Iterable[bytes],
    now: datetime,
) -> None:
    """Store the lines as a file; none at all make no file."""
    lines = iter(lines)
    first = next(lines, None)
    if first is None:
        return
    file = NewFile(
        id=file_id,
        tenant_id=batch.tenant_id,
        purpose=BATCH_OUTPUT,
        filename=f"{batch.id}_{what}.jsonl",
        created_at=now,
        expires_at=now + timedelta(seconds=batch.output_expires_after_s),
    )
    store_file(session, file, chain([first], lines))

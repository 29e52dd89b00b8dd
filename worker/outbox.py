"""Results of a batch on their way to the store, written in groups under the batch's lease."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeAlias

import structlog
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.orm import Session

from db.batches import finish_batch, lose_batches
from db.branches import BranchRow, insert_branches, write_off_branches
from db.claims import ClaimedBatch
from db.problems import ProblemAnswer, answer_problems
from db.session import SessionFactory, transaction
from db.submissions import SubmissionGrade, grade_submissions
from db.wake import notify
from worker import metrics
from worker.spans import BatchSpans

log = structlog.get_logger(__name__)

FLUSH_INTERVAL_S = 0.2
"""What a kill can lose at most; shorter, and commits take the interpreter from the engine."""

RETRY_INTERVAL_S = 0.5
"""Between attempts while the store is away."""

_CloseBatch: TypeAlias = Callable[[Session, datetime], bool]


class Outbox:
    """Rows, answers and grades to store. Used by one thread.

    Args:
        spans: Take what was stored.
        lost: Set by the first write that finds the batch no longer held.
    """

    def __init__(
        self,
        batch: ClaimedBatch,
        sessions: SessionFactory,
        lost: threading.Event,
        spans: BatchSpans,
    ) -> None:
        self.rows: list[BranchRow] = []
        self.answers: list[ProblemAnswer] = []
        self.grades: list[SubmissionGrade] = []
        self._batch = batch
        self._sessions = sessions
        self._lost = lost
        self._spans = spans
        self._flush_at_s = 0.0

    def due_in_s(self) -> float:
        """Seconds until the next flush is due, at least 0; infinite with nothing to store."""
        if not self.rows and not self.answers and not self.grades:
            return math.inf
        return max(0.0, self._flush_at_s - time.monotonic())

    def flush(self) -> bool:
        """Store what is there in one transaction.

        Returns:
            False when the batch is lost, or when the store is away and everything waits.
        """
        return self._store(None)

    def finish(self) -> bool:
        """`flush`, and end the batch in the same transaction."""
        batch = self._batch
        return self._store(
            lambda session, now: finish_batch(
                session, batch_id=batch.id, epoch=batch.epoch, now=now
            )
        )

    def give_back(self) -> bool:
        """`flush`, and let others have the batch's open problems, in the same transaction."""
        return self._store(
            lambda session, now: bool(lose_batches(session, [self._batch.id], now=now))
        )

    def write_off(self) -> None:
        """Store what branches cost that end with a lost batch, if the store is there."""
        try:
            with transaction(self._sessions) as session:
                stored = write_off_branches(session, batch_id=self._batch.id, rows=self.rows)
        except DBAPIError as error:
            log.warning("batch.cost_not_stored", error=str(error.orig))
        else:
            metrics.count(stored)
            self._spans.record(stored)

    def _store(self, close: _CloseBatch | None) -> bool:
        lease = {"batch_id": self._batch.id, "epoch": self._batch.epoch}
        # An answer is in time when it is stored in time, however long it waited for the store.
        now = datetime.now(UTC)
        answers = [replace(answer, finished_at=now) for answer in self.answers]
        try:
            with transaction(self._sessions) as session:
                held = insert_branches(session, **lease, rows=self.rows)
                # Grades before answers: an answered problem takes no more of them.
                if held and self.grades:
                    held = grade_submissions(session, **lease, grades=self.grades, now=now)
                if held and answers:
                    held = answer_problems(session, **lease, answers=answers)
                if held and close is not None:
                    held = close(session, now)
                    # Answers alone wake nobody: a tick for each flush takes time from the engine,
                    # and freed rows have the next work queued.
                    notify(session)
        except DBAPIError as error:
            if not is_outage(error):
                raise
            log.warning("store.away", error=str(error.orig))
            self._flush_at_s = time.monotonic() + RETRY_INTERVAL_S
            return False
        if not held:
            self._lost.set()
            return False
        metrics.count(self.rows, answers, self.grades)
        self._spans.record(self.rows, answers)
        self.rows, self.answers, self.grades = [], [], []
        self._flush_at_s = time.monotonic() + FLUSH_INTERVAL_S
        return True


def is_outage(error: DBAPIError) -> bool:
    """Whether the store is away, as opposed to a statement that it refuses."""
    return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)

"""Takes a batch id from a message and sees the batch through: claim, solve, let go."""

import threading
import time
from datetime import UTC, datetime

import structlog
from structlog.contextvars import bound_contextvars

from db.claims import ClaimedBatch, claim_batch, job_of_batch
from db.session import SessionFactory, transaction
from scheduler.core.accuracy import AnswerProfile
from scheduler.core.shrinkage import best_known
from worker import metrics
from worker.controller import BatchController
from worker.engines.base import Engine
from worker.equivalence import Equivalence
from worker.heartbeat import Heartbeat, Identity
from worker.lease import Lease
from worker.outbox import Outbox
from worker.outcomes import Outcome
from worker.spans import BatchSpans, batch_spans

log = structlog.get_logger(__name__)


class BatchRunner:
    """Runs batches on one engine, each in the thread that calls `run_batch`.

    Args:
        answers: What the branches of the engine's model look like, as long as less was learned.
        stopping: Set to give the running batches back and take no more.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        answers: AnswerProfile,
        equivalence: Equivalence,
        sessions: SessionFactory,
        identity: Identity,
        lease_s: float,
        reserve_s: float,
        stopping: threading.Event,
    ) -> None:
        self._engine = engine
        self._answers = answers
        self._equivalence = equivalence
        self._sessions = sessions
        self._identity = identity
        self._lease_s = lease_s
        self._reserve_s = reserve_s
        self._stopping = stopping
        self._lock = threading.Lock()
        self._running: dict[int, BatchController] = {}
        self._heartbeat: Heartbeat | None = None

    def num_running_branches(self) -> int:
        """Branches that the engine holds for all batches."""
        with self._lock:
            return sum(controller.num_running_branches for controller in self._running.values())

    def _rows_in_use(self) -> int:
        """Branches that the engine holds beyond its rows wait for one."""
        return min(self.num_running_branches(), self._engine.spec.max_num_seqs)

    def num_running_batches(self) -> int:
        """Batches that are being solved."""
        with self._lock:
            return len(self._running)

    def follow(self, heartbeat: Heartbeat) -> None:
        """Learn of lost leases from this heartbeat."""
        self._heartbeat = heartbeat

    def run_batch(self, batch_id: int) -> Outcome | None:
        """Claim and solve a batch; None when it is not there to be claimed.

        Harmless to call twice, late, or for a batch of another worker: the claim has one winner.
        """
        if self._stopping.is_set():
            return None
        began_ns = time.time_ns()
        with transaction(self._sessions) as session:
            batch = claim_batch(
                session,
                batch_id=batch_id,
                owner=self._identity.incarnation,
                lease_s=self._lease_s,
                now=datetime.now(UTC),
            )
            if batch is None:
                job_id = job_of_batch(session, batch_id)
                log.info("batch.not_claimed", job_id=job_id, batch_id=batch_id)
                return None
        # Every line that this thread writes about the batch has both ids.
        with (
            bound_contextvars(job_id=batch.job_id, batch_id=batch.id),
            batch_spans(batch, self._identity.name, began_ns) as spans,
        ):
            return self._run(batch, spans)

    def _run(self, batch: ClaimedBatch, spans: BatchSpans) -> Outcome:
        lease = Lease(batch.deadline_at)
        if self._heartbeat:
            lease = self._heartbeat.hold(batch.id, batch.deadline_at)
        try:
            outcome = self._solve(batch, lease, spans)
        finally:
            with self._lock:
                self._running.pop(batch.id, None)
            if self._heartbeat:
                self._heartbeat.drop(batch.id)
        metrics.BATCHES.labels(outcome.value).inc()
        log.info("batch.left", outcome=outcome.value)
        return outcome

    def _solve(self, batch: ClaimedBatch, lease: Lease, spans: BatchSpans) -> Outcome:
        log.info(
            "batch.claimed",
            num_problems=len(batch.problems),
            num_branches=batch.plan.num_branches,
            num_speculative_tokens=batch.plan.num_speculative_tokens,
        )
        controller = BatchController(
            batch,
            engine=self._engine,
            answers=best_known(self._answers, batch.answers),
            equivalence=self._equivalence,
            outbox=Outbox(batch, self._sessions, lease.lost, spans),
            lease=lease,
            stopping=self._stopping,
            reserve_s=self._reserve_s,
            rows_in_use=self._rows_in_use,
        )
        with self._lock:
            self._running[batch.id] = controller
        try:
            return controller.run()
        except Exception:
            # Its lease is renewed no more. Rescue comes when that runs out, seconds from now, so a
            # fault that repeats does not become a hot loop.
            metrics.BATCHES.labels("failed").inc()
            log.exception("batch.failed")
            raise

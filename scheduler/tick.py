"""One tick: read, decide, write, commit, send.

Theory of operation: `decide` sees one consistent snapshot. Its decisions are written in short
transactions, each guarded by the states it expects, so a tick that is cut off anywhere, or runs
beside another scheduler's, leaves the store valid and the next tick goes on. Messages leave only
after the commit of their batch; `sent_at` is noted after that, so a crash in between sends twice,
never not at all.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import structlog

from db.batches import create_batch, lose_batches, mark_sent
from db.deadlines import expire_jobs, expire_part
from db.endings import (
    EndedJob,
    cancelling_jobs,
    ended_jobs,
    finish_cancelled,
    finish_jobs,
    note_plan_failure,
)
from db.plans import store_plan
from db.risks import forget_ended_risks, note_risk
from db.session import SessionFactory, transaction
from db.snapshot import read_snapshot
from db.tracing import traceparents
from scheduler import metrics
from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import decide
from scheduler.core.decisions import Decisions, NewBatch
from scheduler.core.rehearsal import rehearse
from scheduler.core.snapshot import Snapshot
from scheduler.dispatch import Send
from scheduler.spans import job_span, plan_span

_log = structlog.get_logger(__name__)

Decide = Callable[[Snapshot, SchedulerConfig], Decisions]


class Scheduler:
    """The shell around `decide`; holds no state between ticks."""

    def __init__(
        self,
        sessions: SessionFactory,
        send: Send,
        config: SchedulerConfig,
        *,
        policy: Decide = decide,
    ) -> None:
        self._sessions = sessions
        self._send = send
        self._config = config
        self._policy = policy

    def tick(self, now: datetime) -> Decisions:
        """Bring the store in line with what is known at `now`; returns what was decided."""
        with metrics.TICK.time():
            decisions = self._tick(now)
        metrics.LAST_TICK.set_to_current_time()
        return decisions

    def _tick(self, now: datetime) -> Decisions:
        snapshot, cancelling = self._read(now)
        with metrics.DECIDE.time():
            decisions = self._policy(snapshot, self._config)
        self._rescue(decisions, snapshot, now)
        self._end_cancelled(cancelling, now)
        self._expire(decisions, now)
        self._note_failures(decisions, now)
        messages = self._plan(decisions, now)
        self._note_risks(decisions, now)
        with transaction(self._sessions) as session:
            ended = ended_jobs(session, finish_jobs(session, now=now))
            forget_ended_risks(session)
        for job in ended:
            _tell_end(job)
        given = {batch.id: batch for batch in snapshot.batches}
        for batch_id in decisions.resend_batches:
            batch = given[batch_id]
            messages.append(_Message(batch.job_id, batch.worker_name, batch_id))
        self._deliver(messages, now)
        rehearse(snapshot.workers, now, self._config)
        return decisions

    def _read(self, now: datetime) -> tuple[Snapshot, list[str]]:
        """What to decide on, and the jobs that are to be cancelled."""
        with transaction(self._sessions) as session:
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            return read_snapshot(session, now), cancelling_jobs(session)

    def _rescue(self, decisions: Decisions, snapshot: Snapshot, now: datetime) -> None:
        job_ids = {batch.id: batch.job_id for batch in snapshot.batches}
        for reason in sorted({lost.reason for lost in decisions.lost_batches}):
            batch_ids = [lost.batch_id for lost in decisions.lost_batches if lost.reason is reason]
            with transaction(self._sessions) as session:
                taken = lose_batches(
                    session,
                    batch_ids,
                    reason=reason,
                    max_losses=self._config.max_losses,
                    now=now,
                )
            metrics.BATCHES_LOST.labels(reason.value).inc(len(taken))
            for batch_id in taken:
                _log.warning(
                    "batch.lost", job_id=job_ids[batch_id], batch_id=batch_id, reason=reason.value
                )

    def _end_cancelled(self, job_ids: Sequence[str], now: datetime) -> None:
        for job_id in job_ids:
            with transaction(self._sessions) as session:
                finish_cancelled(session, job_id, now=now)
                ended = ended_jobs(session, [job_id])
            for job in ended:
                _tell_end(job)

    def _expire(self, decisions: Decisions, now: datetime) -> None:
        for job_id in decisions.expired_jobs:
            with transaction(self._sessions) as session:
                expire_jobs(session, [job_id], now=now)
            _log.info("job.deadline_struck", job_id=job_id)
        for job_id, part in decisions.expired_parts:
            with transaction(self._sessions) as session:
                is_struck = expire_part(session, job_id, part, now=now)
            if is_struck:
                _log.info("job.deadline_struck", job_id=job_id, part=part)

    def _note_failures(self, decisions: Decisions, now: datetime) -> None:
        for failure in decisions.plan_failures:
            with transaction(self._sessions) as session:
                is_over = note_plan_failure(
                    session,
                    failure.job_id,
                    error=failure.error,
                    max_failures=self._config.max_plan_failures,
                    now=now,
                )
            metrics.PLAN_FAILURES.inc()
            _log.error(
                "job.not_planned", job_id=failure.job_id, error=failure.error, given_up=is_over
            )

    def _note_risks(self, decisions: Decisions, now: datetime) -> None:
        if not decisions.risks:
            return
        with transaction(self._sessions) as session:
            for risk in sorted(decisions.risks, key=lambda risk: (risk.job_id, risk.part)):
                if note_risk(session, risk, now=now):
                    _log.info("job.risk_changed", job_id=risk.job_id, reason=risk.reason)

    def _plan(self, decisions: Decisions, now: datetime) -> list["_Message"]:
        """Store plans, then batches that carry their forecasts; returns the messages to send."""
        if not decisions.plans and not decisions.new_batches:
            return []
        messages = []
        created = defaultdict[str, list[tuple[NewBatch, int]]](list)
        with transaction(self._sessions) as session:
            for planned in sorted(decisions.plans, key=lambda one: (one.job_id, one.part)):
                store_plan(
                    session,
                    planned.job_id,
                    planned.plan,
                    planned.forecast,
                    now=now,
                    reason=planned.reason,
                    part=planned.part,
                )
            for batch in decisions.new_batches:
                batch_id = create_batch(
                    session,
                    job_id=batch.job_id,
                    worker_name=batch.worker_name,
                    plan=batch.plan,
                    num_problems=batch.num_problems,
                    now=now,
                    part=batch.part,
                )
                if batch_id is not None:
                    messages.append(_Message(batch.job_id, batch.worker_name, batch_id))
                    created[batch.job_id].append((batch, batch_id))
            traced = traceparents(session, created) if created else {}
        for job_id, batches in created.items():
            with plan_span(job_id, traced.get(job_id), [batch for batch, _ in batches], now):
                for batch, batch_id in batches:
                    _tell_batch(batch, batch_id)
        return messages

    def _deliver(self, messages: Iterable["_Message"], now: datetime) -> None:
        sent = []
        for message in messages:
            with structlog.contextvars.bound_contextvars(job_id=message.job_id):
                is_sent = self._send(message.worker_name, message.batch_id)
            # One failure means that the broker is away; a later tick sends the rest.
            if not is_sent:
                metrics.UNSENT.inc()
                break
            sent.append(message.batch_id)
        if sent:
            with transaction(self._sessions) as session:
                mark_sent(session, sent, now=now)


class _Message(NamedTuple):
    """Tells a worker to run a batch; the job is for the log."""

    job_id: str
    worker_name: str
    batch_id: int


def _tell_batch(batch: NewBatch, batch_id: int) -> None:
    metrics.BATCHES_PLANNED.inc()
    _log.info(
        "batch.planned",
        job_id=batch.job_id,
        batch_id=batch_id,
        worker=batch.worker_name,
        num_problems=batch.num_problems,
        num_branches=batch.plan.num_branches,
        num_speculative_tokens=batch.plan.num_speculative_tokens,
    )


def _tell_end(job: EndedJob) -> None:
    metrics.count_end(job)
    with job_span(job):
        _log.info("job.ended", job_id=job.id, state=job.state, kept_promise=job.kept_promise)

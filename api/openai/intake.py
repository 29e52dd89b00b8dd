"""Takes a batch from its file to its jobs: claimed by one process, stored in one transaction.

Theory of operation: a claim is a lease with an epoch. Whoever holds it reads the file and then, in
one transaction that repeats the epoch, moves the batch to in_progress with all its jobs and
problems. A process that is killed leaves nothing behind but a claim that runs out, and one that
was overtaken stores nothing.
"""

import time
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import BinaryIO

import structlog
from opentelemetry.context import Context
from sqlalchemy.orm import Session
from structlog.contextvars import bound_contextvars

from api.admission import Inserted, insert_admitted
from api.dependencies import utc_now
from api.new_jobs import new_job
from api.openai.limits import PromptLimit
from api.openai.requests import stored_file
from api.openai.retries import retry_wait
from api.openai.validation import (
    InvalidBatchError,
    batch_error,
    check_batch,
    problems_of,
)
from api.prompts import chars_per_token, prompt_tokens
from api.quota import excess
from api.refusals import RefusedError
from api.schemas.files import UploadPurpose
from api.settings import ApiSettings
from api.verdicts import tell_admitted, tell_refused
from db import wake, workers
from db.admission import hold_admission
from db.files import get_file
from db.jobs import new_job_id
from db.models import File, OpenaiBatch
from db.openai_batches import (
    claim_validation,
    fail_batch,
    insert_batch_job,
    renew_validation,
    start_batch,
)
from db.openai_lines import insert_refused_lines
from db.problems import insert_placed_problems
from db.refusals import insert_refusal
from db.session import SessionFactory, think_longer, transaction
from db.snapshot import read_snapshot
from db.tracing import going_on, request_context
from scheduler.core.basis import fleet_of
from scheduler.core.decisions import RejectReason

_log = structlog.get_logger(__name__)

LEASE_S = 10.0
"""How long a claim holds unless it is renewed; a batch whose reader was killed waits so long."""

_RENEW_S = 2.0
"""A claim is renewed this often while the file is read."""


class Intake:
    """Validates batches, one at a time."""

    def __init__(self, sessions: SessionFactory, settings: ApiSettings) -> None:
        self._sessions = sessions
        self._settings = settings

    def step(self) -> bool:
        """Take in the most urgent batch; False when there is none."""
        with transaction(self._sessions) as session:
            batch = claim_validation(session, lease_s=LEASE_S, now=utc_now())
        if batch is None:
            return False
        with bound_contextvars(openai_batch_id=batch.id), going_on(_request_of(batch)):
            try:
                self._take(batch)
            except InvalidBatchError as failure:
                self._fail(batch, failure)
            except RefusedError as refused:
                self._refuse(batch, refused)
            except Exception:
                self._look_again(batch)
                _log.exception("openai_batch.not_taken")
        return True

    def _take(self, batch: OpenaiBatch) -> None:
        file = self._input_file(batch)
        checked = check_batch(batch, self._read(batch, file), self._settings, self._limit_of)
        if checked.kinds and self._limit_of(checked.model) is None:
            # Nobody serves the model. A worker may come before the window is over.
            self._look_again(batch)
            return
        job_ids = {key: new_job_id() for key in checked.kinds}
        with transaction(self._sessions) as session:
            # From here on the row's lock is the claim: nobody takes a locked row.
            if not start_batch(
                session, batch, model=checked.model, num_lines=checked.num_lines, now=utc_now()
            ):
                return
            again = stored_file(self._sessions, file.id)
            problems = problems_of(batch, again, self._settings, checked, job_ids)
            num_stored = insert_placed_problems(session, problems)
            if num_stored != sum(kind.num_problems for kind in checked.kinds.values()):
                # Its bytes went while it was read.
                raise self._no_file(batch)
            hold_admission(session)
            think_longer(session)
            now = utc_now()
            admitted: dict[str, Inserted] = {}
            for key, kind in checked.kinds.items():
                # Each kind sees those before it, problems included.
                snapshot = read_snapshot(session, now)
                mean_chars = kind.num_prompt_chars / kind.num_problems
                job = new_job(
                    kind.options,
                    tenant_id=batch.tenant_id,
                    due_at=kind.due_at,
                    num_problems=kind.num_problems,
                    mean_prompt_tokens=prompt_tokens(snapshot, kind.options, mean_chars),
                    now=now,
                )
                admitted[job_ids[key]] = insert_admitted(
                    session,
                    replace(job, id=job_ids[key]),
                    snapshot,
                    self._settings.scheduler,
                    best_effort=kind.options.best_effort,
                )
                insert_batch_job(session, batch.id, job_ids[key])
            wanted = sum(job.num_tokens for job in admitted.values())
            self._check_tokens(session, batch, checked.model, wanted, job_ids.values(), now)
            insert_refused_lines(session, batch.id, checked.refused.values())
            wake.notify(session)
        for job_id, stored in admitted.items():
            tell_admitted(job_id, batch.tenant_id, stored.verdict)

    def _read(self, batch: OpenaiBatch, file: File) -> BinaryIO:
        """The file, which renews the claim while it is read."""
        renewed_s = time.monotonic()

        def renew() -> None:
            nonlocal renewed_s
            if time.monotonic() - renewed_s > _RENEW_S:
                renewed_s = time.monotonic()
                with transaction(self._sessions) as session:
                    renew_validation(session, batch, lease_s=LEASE_S, now=utc_now())

        return stored_file(self._sessions, file.id, on_chunk=renew)

    def _input_file(self, batch: OpenaiBatch) -> File:
        with transaction(self._sessions) as session:
            file = get_file(session, batch.tenant_id, batch.input_file_id, now=utc_now())
        if file is None:
            raise self._no_file(batch)
        if file.purpose != UploadPurpose.BATCH:
            raise batch_error(
                "invalid_request",
                f"File {file.id} has the purpose '{file.purpose}'. Upload it with the purpose"
                " 'batch'.",
                "file_id",
            )
        if file.num_bytes > self._settings.max_batch_file_bytes:
            raise batch_error(
                "file_too_large",
                f"The batch input file is larger than the {self._settings.max_batch_file_bytes}"
                " maximum. Split it into several batches.",
                "input_file_id",
            )
        return file

    def _no_file(self, batch: OpenaiBatch) -> InvalidBatchError:
        return batch_error(
            "invalid_request",
            f"Cannot find file {batch.input_file_id}, or organization {batch.tenant_id} does not"
            " have access to it.",
            "file_id",
        )

    def _limit_of(self, model: str) -> PromptLimit | None:
        with transaction(self._sessions) as session:
            known = workers.models(session)
            snapshot = read_snapshot(session, utc_now())
        if known and model not in known:
            raise batch_error(
                "model_not_found",
                f"The provided model '{model[:100]}' is not supported. Known models:"
                f" {', '.join(known)}.",
                "body.model",
            )
        fleet = fleet_of(snapshot, model, self._settings.scheduler)
        if fleet is None:
            return None
        tokens = fleet.max_model_len
        return PromptLimit(tokens * chars_per_token(snapshot, model), tokens)

    def _check_tokens(
        self,
        session: Session,
        batch: OpenaiBatch,
        model: str,
        wanted: float,
        job_ids: Collection[str],
        now: datetime,
    ) -> None:
        beyond = excess(session, batch.tenant_id, wanted, self._settings, job_ids=job_ids, now=now)
        if beyond is not None:
            raise batch_error(
                "token_limit_exceeded",
                f"Enqueued token limit reached for {model}. Limit: {beyond.limit:,} enqueued"
                f" tokens; {beyond.queued:,.0f} are queued and this batch counts for"
                f" {beyond.wanted:,.0f}. Please try again once some in_progress batches have been"
                " completed.",
            )

    def _fail(self, batch: OpenaiBatch, failure: InvalidBatchError) -> None:
        with transaction(self._sessions) as session:
            failed = fail_batch(session, batch, failure.errors, now=utc_now())
        if failed:
            _log.info("openai_batch.failed", num_errors=len(failure.errors))

    def _refuse(self, batch: OpenaiBatch, refused: RefusedError) -> None:
        if refused.rejected.reason is RejectReason.NO_CAPACITY:
            # The last worker went while the file was stored.
            self._look_again(batch)
            return
        error = batch_error(
            refused.rejected.reason.value, refused.error.message, "completion_window"
        )
        with transaction(self._sessions) as session:
            failed = fail_batch(session, batch, error.errors, now=utc_now())
            if failed:
                insert_refusal(session, refused.job, refused.rejected)
        if failed:
            tell_refused(refused)

    def _look_again(self, batch: OpenaiBatch) -> None:
        wait_s = retry_wait(batch).total_seconds()
        with transaction(self._sessions) as session:
            renew_validation(session, batch, lease_s=wait_s, now=utc_now())


def _request_of(batch: OpenaiBatch) -> Context | None:
    """Where the trace of the request that made the batch goes on."""
    return None if batch.traceparent is None else request_context(batch.traceparent)

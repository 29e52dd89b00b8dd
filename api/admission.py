"""Admits a submission whose problems are loaded and stores its job, in the caller's transaction.

Theory of operation: admissions take turns under a lock that the caller takes. It also serializes
retries: of concurrent requests with one `Idempotency-Key`, or with one content, the first stores a
job and the others find it. What refuses raises, and the transaction leaves nothing behind.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.orm import Session

from api.deadlines import deadline_at
from api.errors import invalid
from api.new_jobs import new_job, views_of
from api.problem_rows import Loaded
from api.prompts import check_fit, prompt_tokens
from api.quota import check_quota
from api.refusals import RefusedError
from api.replays import BY_CONTENT, BY_KEY, replayed_by_content, replayed_by_key
from api.settings import ApiSettings
from api.verdicts import traced_weigh
from db import jobs, keys, wake, workers
from db.problems import delete_problems
from db.snapshot import read_snapshot
from db.tracing import current_traceparent
from scheduler.core.basis import fleet_of
from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import Rejected, Verdict
from scheduler.core.explain import explain
from scheduler.core.parts import admitted_parts, verdict_of_all
from scheduler.core.planned_tokens import planned_tokens
from scheduler.core.snapshot import Snapshot

_UNSOLVED = {"max_branches": 1, "max_tokens": 1, "min_accuracy": None}
"""What a job that samples nothing is planned as: it needs a worker, and next to no time of it."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The job of a submission.

    Attributes:
        replayed: How an earlier request that stored it was found; None when this one did.
    """

    job_id: str
    replayed: str | None = None


@dataclass(frozen=True, slots=True)
class Inserted:
    """A job that was admitted, and the tokens that it counts for in its tenant's quota."""

    verdict: Verdict
    num_tokens: float


def store(
    session: Session,
    loaded: Loaded,
    *,
    tenant_id: str,
    idempotency_key: str | None,
    received_at: datetime,
    now: datetime,
    settings: ApiSettings,
) -> Stored:
    """Store the job, or find the one that the same request stored before.

    Args:
        session: Holds the admission; see `hold_admission`.
        received_at: When the request had arrived, from which a relative deadline counts.
        now: When its turn came, from which the forecast counts.

    Raises:
        ApiError: 400 for a deadline, model or prompt that cannot be, 409 for a reused key, 429 for
            more tokens than the tenant may have queued.
        RefusedError: Admission refuses, which leaves no job.
    """
    options, problems, sha256 = loaded.options, loaded.problems, loaded.sha256
    found = replayed_by_key(session, tenant_id=tenant_id, key=idempotency_key, sha256=sha256)
    if found is not None:
        delete_problems(session, loaded.job_id)
        return Stored(found, BY_KEY)
    if idempotency_key is None and options.deduplicate:
        found = replayed_by_content(
            session, tenant_id=tenant_id, sha256=sha256, now=now, settings=settings
        )
        if found is not None:
            delete_problems(session, loaded.job_id)
            return Stored(found, BY_CONTENT)
    snapshot = read_snapshot(session, now)
    due_at = deadline_at(options.deadline, received_at, settings)
    job = new_job(
        options if options.solve else options.model_copy(update=_UNSOLVED),
        tenant_id=tenant_id,
        due_at=due_at,
        num_problems=problems.num_problems,
        mean_prompt_tokens=prompt_tokens(
            snapshot, options, problems.num_prompt_chars / problems.num_problems
        ),
        now=now,
    )
    job = replace(
        job,
        id=loaded.job_id,
        grading=options.grading.grading(),
        solve=options.solve,
        request_sha256=sha256,
        parts=problems.deadlines.parts(received_at, due_at),
    )
    check_model(session, job.model)
    fleet = fleet_of(snapshot, job.model, settings.scheduler)
    if fleet is not None:
        check_fit(problems, fleet, snapshot)
    admit(
        session,
        job,
        snapshot,
        settings,
        best_effort=options.best_effort,
        idempotency_key=idempotency_key,
        sha256=sha256,
    )
    wake.notify(session)
    return Stored(job.id)


def admit(
    session: Session,
    job: jobs.NewJob,
    snapshot: Snapshot,
    settings: ApiSettings,
    *,
    best_effort: bool,
    idempotency_key: str | None,
    sha256: str,
) -> None:
    """Store a job that is admitted and within its tenant's quota, and claim its key for it.

    Raises:
        ApiError: 429 for more tokens than the tenant may have queued.
        RefusedError: Nobody serves its model, or the deadline cannot be met.
    """
    stored = insert_admitted(session, job, snapshot, settings.scheduler, best_effort=best_effort)
    wanted = stored.num_tokens
    check_quota(session, job.tenant_id, wanted, settings, job_ids=[job.id], now=job.created_at)
    if idempotency_key is not None:
        keys.claim_idempotency_key(
            session,
            tenant_id=job.tenant_id,
            key=idempotency_key,
            request_sha256=sha256,
            job_id=job.id,
            now=job.created_at,
        )


def insert_admitted(
    session: Session,
    job: jobs.NewJob,
    snapshot: Snapshot,
    config: SchedulerConfig,
    *,
    best_effort: bool,
) -> Inserted:
    """Admit a job beside what is live, and store it.

    Raises:
        RefusedError: Nobody serves its model, or the deadline cannot be met.
    """
    views = views_of(job, snapshot)
    weighed = traced_weigh(snapshot, views, config, best_effort=best_effort)
    verdict = verdict_of_all(views, weighed)
    if isinstance(verdict, Rejected):
        refused = views[len(weighed) - 1] if job.parts else None
        raise RefusedError(verdict, job, best_effort=best_effort, part=refused)
    admitted = admitted_parts(views, weighed)
    bounds, last = weighed[-1].bounds, views[-1]
    assert bounds is not None
    answers = bounds.fleet.informed(last.answers).answers
    num_tokens = sum(
        view.num_pending * planned_tokens(answers, admitted[view.part].plan, job.mean_prompt_tokens)
        for view in views
    )
    explanation = explain(bounds, last.key, admitted[last.part])
    jobs.insert_job(
        session,
        replace(
            job,
            tokens_per_problem=num_tokens / job.num_problems,
            traceparent=current_traceparent(),
        ),
        verdict,
        rest=admitted.get(0),
        parts=[admitted[part.number] for part in job.parts],
        decision=explanation.to_dict(),
    )
    return Inserted(verdict.verdict, num_tokens)


def check_model(session: Session, model: str) -> None:
    """Refuse a model that no worker ever served.

    Raises:
        ApiError: 400.
    """
    known = workers.models(session)
    if known and model not in known:
        raise invalid(
            "model",
            f"No worker serves the model '{model}'. Known models: {', '.join(known)}.",
            code="model_not_found",
        )

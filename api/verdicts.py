"""What is seen of admissions from outside: a span of each decision, a count and a log line."""

import structlog
from opentelemetry import trace
from prometheus_client import Counter

from api.refusals import RefusedError
from scheduler.core.admission import Weighed, weigh
from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import Admitted, Rejected, Verdict
from scheduler.core.snapshot import JobView, Snapshot

_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer("slackline.api")

SUBMISSIONS = Counter(
    "slackline_submissions",
    "Jobs that were submitted, by what their clients were told.",
    ("verdict",),
    registry=None,
)
# So that a rate is 0 and not absent before the first of a kind.
for _verdict in Verdict:
    SUBMISSIONS.labels(_verdict.value)


def traced_weigh(
    snapshot: Snapshot, job: JobView, config: SchedulerConfig, *, best_effort: bool
) -> Weighed:
    """`weigh`, with a span that says what was decided."""
    with _tracer.start_as_current_span("admit") as span:
        weighed = weigh(snapshot, job, config, best_effort=best_effort)
        if span.is_recording():
            span.set_attributes(_about(job) | _decided(weighed.verdict))
    return weighed


def tell_admitted(job_id: str, tenant_id: str, verdict: str) -> None:
    """Count and log a job that was stored."""
    SUBMISSIONS.labels(verdict).inc()
    _log.info("job.admitted", job_id=job_id, tenant_id=tenant_id, verdict=verdict)


def tell_refused(refused: RefusedError) -> None:
    """Count and log a job that was refused; its id was never told to anybody."""
    SUBMISSIONS.labels(Verdict.REFUSED.value).inc()
    _log.info("job.refused", tenant_id=refused.job.tenant_id, reason=refused.rejected.reason.value)


def _about(job: JobView) -> dict[str, str | float]:
    return {
        "slackline.job.id": job.id,
        "slackline.model": job.model,
        "slackline.num_problems": job.num_pending,
        "slackline.time_left_s": (job.deadline_at - job.created_at).total_seconds(),
    }


def _decided(verdict: Admitted | Rejected) -> dict[str, str | float]:
    if isinstance(verdict, Rejected):
        return {
            "slackline.verdict": Verdict.REFUSED.value,
            "slackline.reason": verdict.reason.value,
        }
    return {
        "slackline.verdict": verdict.verdict.value,
        "slackline.num_branches": verdict.plan.num_branches,
        "slackline.num_speculative_tokens": verdict.plan.num_speculative_tokens,
        "slackline.predicted_finish_p95_s": verdict.forecast.finish_p95_s,
        "slackline.predicted_accuracy": verdict.forecast.accuracy,
    }

"""What is seen of admissions from outside: a span of each decision, a count and a log line."""

from collections.abc import Sequence

import structlog
from opentelemetry import trace
from prometheus_client import Counter

from api.refusals import RefusedError
from scheduler.core.admission import Weighed
from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import Admitted, Rejected, Verdict
from scheduler.core.parts import verdict_of_all, weigh_parts
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
    snapshot: Snapshot, parts: Sequence[JobView], config: SchedulerConfig, *, best_effort: bool
) -> list[Weighed]:
    """`weigh_parts`, with a span that says what was decided."""
    with _tracer.start_as_current_span("admit") as span:
        weighed = weigh_parts(snapshot, parts, config, best_effort=best_effort)
        if span.is_recording():
            span.set_attributes(_about(parts) | _decided(verdict_of_all(parts, weighed)))
    return weighed


def tell_admitted(job_id: str, tenant_id: str, verdict: str) -> None:
    """Count and log a job that was stored."""
    SUBMISSIONS.labels(verdict).inc()
    _log.info("job.admitted", job_id=job_id, tenant_id=tenant_id, verdict=verdict)


def tell_refused(refused: RefusedError) -> None:
    """Count and log a job that was refused; its id was never told to anybody."""
    SUBMISSIONS.labels(Verdict.REFUSED.value).inc()
    _log.info("job.refused", tenant_id=refused.job.tenant_id, reason=refused.rejected.reason.value)


def _about(parts: Sequence[JobView]) -> dict[str, str | float]:
    last = parts[-1]
    return {
        "slackline.job.id": last.id,
        "slackline.model": last.model,
        "slackline.num_problems": sum(part.num_pending for part in parts),
        "slackline.time_left_s": (last.deadline_at - last.created_at).total_seconds(),
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

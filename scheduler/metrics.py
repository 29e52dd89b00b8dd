"""Prometheus metrics of the scheduler process. Labels are states and reasons, never jobs."""

from prometheus_client import Counter, Gauge, Histogram

from db.endings import EndedJob
from scheduler.core.decisions import LossReason
from scheduler.core.states import JOB_TRANSITIONS, terminal_states

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_STATES = sorted(terminal_states(JOB_TRANSITIONS))

LEADS = Gauge("slackline_scheduler_leads", "Whether this process decides; the others stand by.")
LAST_TICK = Gauge(
    "slackline_last_tick_timestamp_seconds", "When this process last finished a tick; 0 for never."
)
TICK = Histogram(
    "slackline_tick_duration_seconds",
    "Time of one tick: read, decide, write, commit and send.",
    buckets=_BUCKETS_S,
)
DECIDE = Histogram(
    "slackline_decide_duration_seconds",
    "Time that planning took of a tick.",
    buckets=_BUCKETS_S,
)
JOBS_ENDED = Counter(
    "slackline_jobs_ended",
    "Jobs by their last state; deadline is met, missed, or none for those without a promise.",
    ("state", "deadline"),
)
BATCHES_PLANNED = Counter("slackline_batches_planned", "Batches given to workers.")
BATCHES_LOST = Counter(
    "slackline_batches_lost", "Batches taken back from their workers.", ("reason",)
)
PLAN_FAILURES = Counter("slackline_plan_failures", "Attempts to plan a job that failed.")
UNSENT = Counter(
    "slackline_messages_unsent", "Messages that the broker did not take; they are sent again."
)

# So that a rate is 0 and not absent before the first of a kind.
for _reason in LossReason:
    BATCHES_LOST.labels(_reason.value)
for _state in _STATES:
    for _deadline in ("met", "missed", "none"):
        JOBS_ENDED.labels(_state, _deadline)


def count_end(job: EndedJob) -> None:
    """Count a job that ended."""
    promise = {True: "met", False: "missed", None: "none"}[job.kept_promise]
    JOBS_ENDED.labels(job.state, promise).inc()

"""Prometheus metrics of a worker process: what it stored, how fast, and how full it is.

Counted is what the store took, once it did. No label names a job or a tenant, and only
`slackline_worker_info` the worker.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import Counter, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from db.branches import BranchRow
from db.problems import ProblemAnswer
from db.submissions import SubmissionGrade
from scheduler.core.grading import Grade
from worker.engines.base import Engine, FinishReason

_LATENCY_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_TPOT_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

_BRANCHES = Counter("slackline_branches", "Branches stored, by how they ended.", ("finish_reason",))
_COMPLETION_TOKENS = Counter("slackline_completion_tokens", "Completion tokens of stored branches.")
_PROMPT_TOKENS = Counter("slackline_prompt_tokens", "Prompt tokens of stored branches.")
_DRAFT_TOKENS = Counter("slackline_draft_tokens", "Draft tokens that the target verified.")
_ACCEPTED_TOKENS = Counter(
    "slackline_accepted_draft_tokens", "Draft tokens that the target accepted."
)
_QUEUE_TIME = Histogram(
    "slackline_branch_queue_time_seconds",
    "Time that a branch waited for a row of the engine.",
    buckets=_LATENCY_BUCKETS_S,
)
_TTFT = Histogram(
    "slackline_branch_ttft_seconds",
    "Time from a branch's submission to the engine to its first token.",
    buckets=_LATENCY_BUCKETS_S,
)
_TPOT = Histogram(
    "slackline_branch_tpot_seconds",
    "Mean time per token of a branch after its first.",
    buckets=_TPOT_BUCKETS_S,
)
_ANSWERS = Counter(
    "slackline_answers",
    "Problems closed here: answered, degraded (cut by the deadline), or failed.",
    ("outcome",),
)
_GRADES = Counter("slackline_grades", "Answers of others that were graded.", ("grade",))
BATCHES = Counter(
    "slackline_batches", "Batches left: done, lost, released, or failed.", ("outcome",)
)

# So that a rate is 0 and not absent before the first of a kind.
for _reason in FinishReason:
    _BRANCHES.labels(_reason.value)
for _outcome in ("answered", "degraded", "failed"):
    _ANSWERS.labels(_outcome)
for _grade in Grade:
    _GRADES.labels(_grade.value)
for _outcome in ("done", "lost", "released", "failed"):
    BATCHES.labels(_outcome)


def count(
    rows: Sequence[BranchRow],
    answers: Iterable[ProblemAnswer] = (),
    grades: Iterable[SubmissionGrade] = (),
) -> None:
    """Count what was stored."""
    for row in rows:
        _BRANCHES.labels(row.finish_reason).inc()
        _QUEUE_TIME.observe(row.queue_time_s)
        if row.ttft_s is not None:
            _TTFT.observe(row.ttft_s)
        if row.decode_time_s is not None and row.completion_tokens > 1:
            _TPOT.observe(row.decode_time_s / (row.completion_tokens - 1))
    _COMPLETION_TOKENS.inc(sum(row.completion_tokens for row in rows))
    _PROMPT_TOKENS.inc(sum(row.prompt_tokens for row in rows))
    _DRAFT_TOKENS.inc(sum(sum(row.drafted_by_position) for row in rows))
    _ACCEPTED_TOKENS.inc(sum(sum(row.accepted_by_position) for row in rows))
    for answer in answers:
        _ANSWERS.labels("degraded" if answer.degraded else answer.state.value).inc()
    for graded in grades:
        _GRADES.labels(graded.grade).inc()


class EngineCollector(Collector):
    """Reads the engine when Prometheus asks.

    Args:
        num_branches: Branches that the engine holds for all batches.
        num_batches: Batches that run.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        worker: str,
        num_branches: Callable[[], int],
        num_batches: Callable[[], int],
    ) -> None:
        self._engine = engine
        self._worker = worker
        self._num_branches = num_branches
        self._num_batches = num_batches

    def describe(self) -> Iterable[Metric]:
        """Nothing: what `collect` gives does not overlap with others."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """How full the engine is, and what it did since its start."""
        spec, totals = self._engine.spec, self._engine.totals()
        num_branches = self._num_branches()
        yield InfoMetricFamily(
            "slackline_worker",
            "Who serves what.",
            value={"worker": self._worker, "model": spec.model, "engine": spec.engine},
        )
        gauges = {
            "rows": ("Branches that can decode together.", spec.max_num_seqs),
            "rows_in_use": ("Branches that decode now.", min(num_branches, spec.max_num_seqs)),
            "waiting_branches": (
                "Branches that wait for a row.",
                max(0, num_branches - spec.max_num_seqs),
            ),
            "running_batches": ("Batches that run here.", self._num_batches()),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"slackline_{name}", text, value=value)
        yield CounterMetricFamily(
            "slackline_engine_steps", "Decode steps of the engine.", value=totals.steps
        )
        yield CounterMetricFamily(
            "slackline_engine_busy_seconds",
            "Time in which the engine had rows to decode.",
            value=totals.busy_s,
        )

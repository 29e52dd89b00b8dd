"""What `decide` reads: the live jobs, batches and workers at one instant, as counts.

Theory of operation: a snapshot holds no prompts and no problem ids, only counts, so its size
grows with jobs and batches and not with problems. Instants are aware UTC datetimes.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from scheduler.core.accuracy import AnswerProfile
from scheduler.core.decisions import RiskReason
from scheduler.core.latency import LatencyProfile
from scheduler.core.plan import EngineSpec, Plan
from scheduler.core.shrinkage import expected_answers
from scheduler.core.states import BatchState, JobState

ARRIVAL_WINDOW_S = 300.0
"""Time over which arrivals are counted: several bursts, and soon forgotten. With 120 s or 60 s the
lulls between bursts were taken for an idle system."""
LEAST_WINDOW_S = 10.0, 60.0
"""Rates count over the time since the first submission of the window: while a system fills, those
over the whole window are far too low. Two jobs at once are no rate, so they count over the mean
time given until the deadline at least, within these limits."""


def most_branches(max_branches: int, temperature: float) -> int:
    """Branches of a problem that may pay: at temperature 0 all are alike, so one is enough."""
    return max_branches if temperature > 0 else 1


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Problems submitted for one model of late, those of refused jobs included.

    Attributes:
        first_s: Seconds since the first of them.
        numbers: (mean seconds given until the deadline, problems), by octaves of the first.
        promised: The same of those among them whose deadline was promised.
    """

    first_s: float = 0.0
    numbers: tuple[tuple[float, int], ...] = ()
    promised: tuple[tuple[float, int], ...] = ()

    @classmethod
    def since(
        cls,
        first_s: float,
        numbers: Iterable[tuple[float, int]],
        promised: Iterable[tuple[float, int]] = (),
    ) -> "Arrivals":
        """Those that came since the first of them, so many seconds ago.

        Args:
            numbers, promised: (seconds given until the deadline, problems), in any order.
        """
        return cls(first_s, _by_octaves(numbers), _by_octaves(promised))

    def and_one(self, given_s: float, num_problems: int) -> "Arrivals":
        """These and a job that comes now."""
        return replace(self, numbers=_by_octaves([*self.numbers, (given_s, num_problems)]))

    @property
    def over_s(self) -> float:
        """Time over which they came, as rates see it."""
        least_s = min(max(_mean_given_s(self.numbers), LEAST_WINDOW_S[0]), LEAST_WINDOW_S[1])
        return min(max(self.first_s, least_s), ARRIVAL_WINDOW_S)

    @property
    def problems_per_s(self) -> float:
        """Rate at which problems came."""
        return sum(number for _, number in self.numbers) / self.over_s


NO_ARRIVALS = Arrivals()


def _mean_given_s(numbers: tuple[tuple[float, int], ...]) -> float:
    """Mean over problems of the seconds given until the deadline; infinite without problems."""
    total = sum(number for _, number in numbers)
    return sum(given_s * number for given_s, number in numbers) / total if total else math.inf


def octave_of(given_s: float) -> int:
    """The octave of seconds until a deadline; all below two are one."""
    return math.floor(math.log2(max(given_s, 1.0)))


def _by_octaves(numbers: Iterable[tuple[float, int]]) -> tuple[tuple[float, int], ...]:
    """Problems with about the same time until the deadline together, and their mean time."""
    octaves: dict[int, tuple[float, int]] = {}
    for given_s, number in numbers:
        octave = octave_of(given_s)
        seconds, count = octaves.get(octave, (0.0, 0))
        octaves[octave] = seconds + number * given_s, count + number
    return tuple((seconds / count, count) for _, (seconds, count) in sorted(octaves.items()))


@dataclass(frozen=True, slots=True)
class JobView:
    """One live job, or a part of one: those of its problems that have the same deadline.

    Parts are planned and handed out like jobs, and share all but deadline, plan and promise.

    Attributes:
        deadline_at: Of the part, never after that of its job.
        max_branches: Upper bound on branches per problem asked by the client.
        max_tokens: Upper bound on completion tokens per branch asked by the client, or None.
        min_accuracy: Accuracy asked for, a fraction; None when the client left it open.
        mean_prompt_tokens: Mean prompt length in tokens (estimated from characters at submit).
        num_pending: Problems that no batch holds.
        num_in_flight: Problems dispatched or running.
        plan: The split in force, None before the first.
        tenant_share: Share of the row-seconds due to its tenant when all tenants want more, a
            fraction.
        num_problems: Problems that it was submitted with; 0 when that does not matter.
        promised_at: P95 finish that was promised at submit; None for a new job.
        predicted_at: P95 finish that is stored now; None before the first plan.
        answers: What was learned of its model on its task family; None where the workers' own
            profile is all there is.
        is_promised: False for a best effort, which gets what jobs with a promise leave.
        risk: Why its deadline was told to be at risk; None while it was not.
        part: Number of the part within its job: 0 for problems without a deadline of their own.
    """

    id: str
    tenant_id: str
    model: str
    state: JobState
    created_at: datetime
    deadline_at: datetime
    weight: float
    max_branches: int
    max_tokens: int | None
    min_accuracy: float | None
    mean_prompt_tokens: float
    num_pending: int
    num_in_flight: int
    plan: Plan | None = None
    tenant_share: float = 1.0
    num_problems: int = 0
    promised_at: datetime | None = None
    predicted_at: datetime | None = None
    answers: AnswerProfile | None = None
    is_promised: bool = True
    risk: RiskReason | None = None
    part: int = 0

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from all other views of a snapshot."""
        return self.id, self.part


@dataclass(frozen=True, slots=True)
class BatchView:
    """One live batch: planned or claimed.

    Attributes:
        model: Model that the job asks for.
        sent_at: When its message last left for the broker; None when it never did.
        lease_expires_at: End of the worker's lease; None until claimed.
        lease_owner: Incarnation of the worker that claimed it.
        part: Of its job, as in `JobView`.
        num_open_problems: Problems of the batch without an answer yet.
        num_open_branches: Branches of those problems not yet finished.
        mean_prompt_tokens: Mean prompt length of its job in tokens.
        answers: As in `JobView`.
    """

    id: int
    job_id: str
    model: str
    worker_name: str
    state: BatchState
    plan: Plan
    deadline_at: datetime
    created_at: datetime
    sent_at: datetime | None
    lease_expires_at: datetime | None
    lease_owner: str | None
    num_open_problems: int
    num_open_branches: int
    mean_prompt_tokens: float = 0.0
    answers: AnswerProfile | None = None
    part: int = 0


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One registered worker.

    Attributes:
        incarnation: Identity of the process behind the name; a restart has a new one.
        latency: Measured latency of its engine.
        answers: Learned lengths and accuracy of its model.
    """

    name: str
    incarnation: str
    spec: EngineSpec
    latency: LatencyProfile
    answers: AnswerProfile
    heartbeat_at: datetime


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one tick decides on.

    Attributes:
        learned: Answer profiles learned from finished branches, one per model and task family.
        tenant_shares: (tenant id, share of the row-seconds) of every tenant; shares sum to 1.
        arrivals: By model what was submitted within `ARRIVAL_WINDOW_S`.
    """

    now: datetime
    jobs: tuple[JobView, ...]
    batches: tuple[BatchView, ...]
    workers: tuple[WorkerView, ...]
    learned: tuple[AnswerProfile, ...] = ()
    tenant_shares: tuple[tuple[str, float], ...] = ()
    arrivals: tuple[tuple[str, Arrivals], ...] = ()

    def arrivals_of(self, model: str) -> Arrivals:
        """Problems submitted for a model of late."""
        return dict(self.arrivals).get(model, NO_ARRIVALS)

    def with_arrival(self, job: JobView) -> "Snapshot":
        """This with a new job among the arrivals, but not among the jobs."""
        given_s = (job.deadline_at - job.created_at).total_seconds()
        counted = self.arrivals_of(job.model).and_one(given_s, job.num_pending)
        return replace(self, arrivals=tuple((dict(self.arrivals) | {job.model: counted}).items()))

    def share_of(self, tenant_id: str) -> float:
        """Share of the row-seconds due to a tenant; 1 for one that is not known."""
        return dict(self.tenant_shares).get(tenant_id, 1.0)

    def answers_of(self, model: str, family: str) -> AnswerProfile | None:
        """What is known of a model on a task family; None when nothing was learned at all."""
        return expected_answers(model, family, self.learned)

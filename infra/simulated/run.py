"""Runs a fleet through its days and keeps what the store would have been told."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from infra.simulated.arrivals import Arrival, arrivals
from infra.simulated.fleets import TENANTS, Fleet, Question
from scheduler.core.admission import weigh
from scheduler.core.basis import basis_of, fleet_of
from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import decide
from scheduler.core.decisions import Admitted, Decisions, JobPlanned, Rejected
from scheduler.core.explain import explain
from scheduler.core.simulation.policy import Production
from scheduler.core.simulation.records import JobOutcome
from scheduler.core.simulation.simulator import simulate
from scheduler.core.simulation.views import START
from scheduler.core.simulation.world import SimulatedJob
from scheduler.core.snapshot import JobView, Snapshot

TICK_S = 20.0
"""Plans are looked at again this often, and with every arrival and every batch that ends. The
service does it twice a second, which changes little and would take an hour here."""
MAX_BRANCHES = 16
"""As a submission has it by default."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What was decided at a submission; the explanation and its basis as they are stored."""

    verdict: Admitted | Rejected
    decision: dict[str, Any] | None = None
    basis: dict[str, Any] | None = None


@dataclass(frozen=True)
class Witnessed(Production):
    """Production that remembers what it decided.

    Attributes:
        efforts: Ids of jobs that are rather a best effort than refused.
        plans: By job, with the seconds at which each was stored.
    """

    efforts: frozenset[str] = frozenset()
    admissions: dict[str, Admission] = field(default_factory=dict)
    plans: dict[str, list[tuple[float, JobPlanned]]] = field(default_factory=dict)

    def admit(
        self, snapshot: Snapshot, job: JobView, config: SchedulerConfig
    ) -> Admitted | Rejected:
        """Admit as the API does."""
        weighed = weigh(snapshot, job, config, best_effort=job.id in self.efforts)
        verdict, bounds = weighed.verdict, weighed.bounds
        fleet = fleet_of(snapshot, job.model, config)
        decision = basis = None
        if isinstance(verdict, Admitted) and bounds is not None and fleet is not None:
            decision = explain(bounds, job.key, verdict).to_dict()
            basis = asdict(basis_of(fleet))
        self.admissions[job.id] = Admission(verdict, decision, basis)
        return verdict

    def decide(self, snapshot: Snapshot, config: SchedulerConfig) -> Decisions:
        """Decide as the scheduler's tick does."""
        decisions = decide(snapshot, config)
        now_s = (snapshot.now - START).total_seconds()
        for planned in decisions.plans:
            self.plans.setdefault(planned.job_id, []).append((now_s, planned))
        return decisions


@dataclass(frozen=True, slots=True)
class Ended:
    """One submission and how it went, in seconds from the beginning of the history.

    Attributes:
        begin: The beginning of the history.
        drawn: For each problem which question it is and which recorded branch each of its
            branches replayed.
    """

    begin: datetime
    fleet: Fleet
    arrival: Arrival
    outcome: JobOutcome
    admission: Admission
    plans: list[tuple[float, JobPlanned]]
    drawn: list[tuple[Question, tuple[int, ...]]]

    def at(self, seconds: float) -> datetime:
        """The instant of a time."""
        return self.begin + timedelta(seconds=seconds)


def run(fleet: Fleet, begin: datetime, days: float, seed: int) -> Iterator[Ended]:
    """All submissions to a fleet in the order of their arrival."""
    rng = np.random.default_rng(seed)
    drawn: list[list[tuple[Question, tuple[int, ...]]]] = []
    jobs = []
    arrived = arrivals(fleet.habits, begin, days, rng)
    for number, arrival in enumerate(arrived):
        drawn.append([_draw(fleet, rng) for _ in range(arrival.num_problems)])
        jobs.append(_job(fleet, number, arrival, drawn[-1]))
    efforts = (job.id for job, each in zip(jobs, arrived, strict=True) if each.habit.best_effort)
    policy = Witnessed(efforts=frozenset(efforts))
    outcome = simulate(
        jobs,
        fleet.workers,
        policy,
        SchedulerConfig(),
        changes=fleet.changes,
        tick_s=TICK_S,
        keeps_branches=True,
    )
    # Jobs come back in the order in which they arrived, which is that of their numbers.
    for job, arrival, problems in zip(outcome.jobs, arrived, drawn, strict=True):
        admission, plans = policy.admissions[job.id], policy.plans.get(job.id, [])
        yield Ended(begin, fleet, arrival, job, admission, plans, problems)


def _draw(fleet: Fleet, rng: np.random.Generator) -> tuple[Question, tuple[int, ...]]:
    question = fleet.questions[rng.integers(len(fleet.questions))]
    order = rng.permutation(len(question.recorded.tokens))
    return question, tuple(order.tolist())


def _job(
    fleet: Fleet, number: int, arrival: Arrival, drawn: list[tuple[Question, tuple[int, ...]]]
) -> SimulatedJob:
    chars = sum(len(question.prompt) for question, _ in drawn) / len(drawn)
    return SimulatedJob(
        id=f"{number:06}",
        tenant=TENANTS[arrival.habit.tenant],
        model=fleet.model,
        arrival_s=arrival.at_s,
        deadline_s=arrival.at_s + arrival.deadline_s,
        problems=tuple(
            replace(
                question.recorded,
                classes=tuple(question.recorded.classes[i] for i in order),
                tokens=tuple(question.recorded.tokens[i] for i in order),
                finished=tuple(question.recorded.finished[i] for i in order)
                if question.recorded.finished
                else (),
            )
            for question, order in drawn
        ),
        prompt_tokens=round(chars / fleet.workers[0].spec.chars_per_token),
        max_branches=MAX_BRANCHES,
    )

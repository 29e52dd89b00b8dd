"""What decides in a simulation: production and, in the benchmarks, what it is compared with."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from scheduler.core.admission import admit
from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import decide
from scheduler.core.decisions import Admitted, Decisions, Rejected
from scheduler.core.snapshot import JobView, Snapshot


class Policy(Protocol):
    """Admission, one tick, and the order in which an engine takes waiting branches."""

    @property
    def name(self) -> str:
        """Name in records and figures."""

    def admit(
        self, snapshot: Snapshot, job: JobView, config: SchedulerConfig
    ) -> Admitted | Rejected:
        """Admit or refuse a job that is not in the snapshot yet."""

    def decide(self, snapshot: Snapshot, config: SchedulerConfig) -> Decisions:
        """Decide one tick."""

    def priority(self, created_at: datetime, deadline_at: datetime) -> float:
        """Place in an engine's queue of branches of a job; lower goes first."""


@dataclass(frozen=True)
class Production:
    """The scheduler as it is shipped.

    Attributes:
        best_effort: Whether clients would rather have what can still be answered than a refusal.
    """

    name: str = "production"
    best_effort: bool = False

    def admit(
        self, snapshot: Snapshot, job: JobView, config: SchedulerConfig
    ) -> Admitted | Rejected:
        """Admit as the API does."""
        return admit(snapshot, job, config, best_effort=self.best_effort)

    def decide(self, snapshot: Snapshot, config: SchedulerConfig) -> Decisions:
        """Decide as the scheduler's tick does."""
        return decide(snapshot, config)

    def priority(self, created_at: datetime, deadline_at: datetime) -> float:  # noqa: ARG002
        """Nearest deadline first, as the worker asks of its engine."""
        return deadline_at.timestamp()

"""Production with one of its two means taken away: branches only, or drafts only."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import Admitted, Decisions, Rejected
from scheduler.core.simulation.policy import Production
from scheduler.core.snapshot import JobView, Snapshot


@dataclass(frozen=True)
class Restricted:
    """Lets production decide on a world in which drafts, or several branches, do not exist."""

    name: str
    has_drafts: bool
    has_branches: bool
    production: Production = field(default_factory=Production)

    def admit(
        self, snapshot: Snapshot, job: JobView, config: SchedulerConfig
    ) -> Admitted | Rejected:
        """Admit as production would in that world."""
        return self.production.admit(self._seen(snapshot), self._seen_job(job), config)

    def decide(self, snapshot: Snapshot, config: SchedulerConfig) -> Decisions:
        """Decide as production would in that world."""
        return self.production.decide(self._seen(snapshot), config)

    def priority(self, created_at: datetime, deadline_at: datetime) -> float:
        """As in production."""
        return self.production.priority(created_at, deadline_at)

    def _seen(self, snapshot: Snapshot) -> Snapshot:
        workers = snapshot.workers
        if not self.has_drafts:
            workers = tuple(
                replace(worker, spec=replace(worker.spec, draft_lengths=(0,))) for worker in workers
            )
        jobs = tuple(self._seen_job(job) for job in snapshot.jobs)
        return replace(snapshot, jobs=jobs, workers=workers)

    def _seen_job(self, job: JobView) -> JobView:
        return job if self.has_branches else replace(job, max_branches=1)


BRANCHES_ONLY = Restricted("branches_only", has_drafts=False, has_branches=True)
DRAFT_ONLY = Restricted("draft_only", has_drafts=True, has_branches=False)

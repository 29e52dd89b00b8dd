"""The event loop: arrivals, ticks, batches on engines, branches that end, deadlines.

Theory of operation: an arrival asks the policy for admission, as the API does, and wakes a tick; a
tick hands the policy a snapshot and puts its decisions into effect; a batch reaches its worker
`dispatch_s` later. Ticks come on arrivals and batch ends, at least `MIN_TICK_S` apart, and every
`tick_s` while a job is live.

Workers never fail here: their heartbeats and leases are always fresh, and a policy that gives up a
batch is in error. Every event costs O(log n); a tick costs what the policy makes of the live jobs,
batches and workers.
"""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import NewBatch, Rejected
from scheduler.core.simulation.clock import Clock
from scheduler.core.simulation.controllers import Controllers
from scheduler.core.simulation.live import LiveBatch, LiveJob, LiveProblem
from scheduler.core.simulation.policy import Policy
from scheduler.core.simulation.recent import RecentJobs
from scheduler.core.simulation.records import JobOutcome, Outcome
from scheduler.core.simulation.views import NEVER, instant, view_of
from scheduler.core.simulation.world import SimulatedJob, SimulatedWorker
from scheduler.core.snapshot import Snapshot, WorkerView

TICK_S = 0.5
MIN_TICK_S = 0.05


def simulate(
    jobs: Sequence[SimulatedJob],
    workers: Sequence[SimulatedWorker],
    policy: Policy,
    config: SchedulerConfig,
    *,
    changes: Sequence[tuple[float, SimulatedWorker]] = (),
    tick_s: float = TICK_S,
    keeps_branches: bool = False,
) -> Outcome:
    """Run all jobs to their ends. The same arguments give the same outcome.

    Args:
        changes: Instants at which the worker of that name gets other latencies and beliefs; its
            limits and its acceptance of drafts must stay.
        tick_s: Most seconds between two ticks while a job is live.
        keeps_branches: The outcome has every branch, which takes memory.

    Raises:
        ValueError: A job has no problems, ids repeat, or the policy gave up a batch.
    """
    if any(not job.problems for job in jobs):
        raise ValueError("a simulated job needs at least one problem")
    if len({job.id for job in jobs}) < len(jobs):
        raise ValueError("simulated jobs need different ids")
    if len({worker.name for worker in workers}) < len(workers):
        raise ValueError("simulated workers need different names")
    simulation = _Simulation(
        jobs, workers, policy, config, tick_s=tick_s, keeps_branches=keeps_branches
    )
    return simulation.run(changes)


class _Simulation:
    def __init__(
        self,
        jobs: Sequence[SimulatedJob],
        workers: Sequence[SimulatedWorker],
        policy: Policy,
        config: SchedulerConfig,
        *,
        tick_s: float,
        keeps_branches: bool,
    ) -> None:
        self._tick_s = tick_s
        self._keeps_branches = keeps_branches
        self._coming = sorted(jobs, key=lambda job: (job.arrival_s, job.id))
        self._policy = policy
        self._config = config
        self._clock = Clock()
        self._worker_views = {worker.name: _worker_view(worker) for worker in workers}
        self._controllers = Controllers(
            self._clock,
            workers,
            policy,
            config,
            on_problem_end=self._end_problem,
            on_batch_end=self._end_batch,
        )
        self._batch_ids = itertools.count(1)
        self._jobs: dict[str, LiveJob] = {}
        self._batches: dict[int, LiveBatch] = {}
        self._recent = defaultdict[str, RecentJobs](RecentJobs)
        self._next_tick_s: float | None = None
        self._last_tick_s = -MIN_TICK_S
        self._num_ticks = 0
        self._outcomes: dict[str, JobOutcome] = {}

    def run(self, changes: Sequence[tuple[float, SimulatedWorker]]) -> Outcome:
        for at_s, worker in changes:
            self._clock.at(at_s, partial(self._change, worker))
        for job in self._coming:
            self._clock.at(job.arrival_s, partial(self._arrive, job))
        self._clock.run()
        return Outcome(
            policy=self._policy.name,
            jobs=tuple(self._outcomes[job.id] for job in self._coming),
            engines=self._controllers.outcomes(),
            num_ticks=self._num_ticks,
        )

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            now=instant(self._clock.now_s),
            jobs=tuple(job.view() for job in self._jobs.values()),
            batches=tuple(batch.view() for batch in self._batches.values()),
            workers=tuple(self._worker_views.values()),
            arrivals=tuple(
                (model, recent.arrivals(self._clock.now_s))
                for model, recent in self._recent.items()
            ),
        )

    def _change(self, worker: SimulatedWorker) -> None:
        self._worker_views[worker.name] = _worker_view(worker)
        self._controllers.retime(worker)

    def _arrive(self, job: SimulatedJob) -> None:
        view = view_of(job, plan=None, num_pending=len(job.problems), num_in_flight=0)
        verdict = self._policy.admit(self._snapshot(), view, self._config)
        is_promised = not isinstance(verdict, Rejected) and verdict.is_promised
        self._recent[job.model].add(job, is_promised=is_promised)
        if isinstance(verdict, Rejected):
            self._outcomes[job.id] = _refused(job)
            return
        problems = [
            LiveProblem(recorded, [] if self._keeps_branches else None) for recorded in job.problems
        ]
        live = LiveJob(job, verdict.plan, verdict.forecast, problems, is_promised)
        self._jobs[job.id] = live
        self._clock.at(job.deadline_s, partial(self._strike, live))
        self._wake()

    def _wake(self, delay_s: float = 0.0) -> None:
        at_s = max(self._clock.now_s + delay_s, self._last_tick_s + MIN_TICK_S)
        if self._next_tick_s is None or at_s < self._next_tick_s:
            self._next_tick_s = at_s
            self._clock.at(at_s, partial(self._tick, at_s))

    def _tick(self, at_s: float) -> None:
        if at_s != self._next_tick_s:
            return
        self._next_tick_s = None
        self._last_tick_s = at_s
        self._num_ticks += 1
        decisions = self._policy.decide(self._snapshot(), self._config)
        if decisions.lost_batches:
            raise ValueError("a policy gave up batches of workers that are alive")
        for planned in decisions.plans:
            self._jobs[planned.job_id].replan(planned.plan)
        for new in decisions.new_batches:
            self._create(new)
        if self._jobs:
            self._wake(self._tick_s)

    def _create(self, new: NewBatch) -> None:
        job = self._jobs[new.job_id]
        batch = LiveBatch(
            id=next(self._batch_ids),
            job=job,
            worker_name=new.worker_name,
            plan=new.plan,
            created_s=self._clock.now_s,
            problems=job.take(new, self._clock.now_s),
        )
        self._batches[batch.id] = batch
        self._controllers.send(batch)

    def _end_batch(self, batch: LiveBatch) -> None:
        del self._batches[batch.id]
        self._wake()

    def _end_problem(self, job: LiveJob) -> None:
        job.close_one()
        if job.num_closed == len(job.problems):
            self._outcomes[job.job.id] = job.outcome()
            del self._jobs[job.job.id]

    def _strike(self, job: LiveJob) -> None:
        """The deadline: what has no vote expires."""
        for problem in job.problems:
            if problem.outcome is None and not self._controllers.expire(problem):
                problem.close(self._clock.now_s, is_degraded=True)
                self._end_problem(job)


def _refused(job: SimulatedJob) -> JobOutcome:
    return JobOutcome(
        id=job.id,
        tenant=job.tenant,
        arrival_s=job.arrival_s,
        deadline_s=job.deadline_s,
        num_problems=len(job.problems),
        is_admitted=False,
        forecast=None,
        is_promised=False,
        batches=(),
        problems=(),
        finish_s=job.arrival_s,
        met_deadline=False,
    )


def _worker_view(worker: SimulatedWorker) -> WorkerView:
    return WorkerView(
        name=worker.name,
        incarnation=worker.name,
        spec=worker.spec,
        latency=worker.believed_latency,
        answers=worker.believed_answers,
        heartbeat_at=NEVER,
    )

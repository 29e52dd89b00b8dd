"""The event loop: arrivals, ticks, batches on engines, branches that end, deadlines.

Theory of operation: one heap of events in virtual time. An arrival asks the policy for admission,
as the API does, and wakes a tick; a tick hands the policy a snapshot and puts its decisions into
effect; a batch reaches its engine `dispatch_s` later. An engine stands in the heap with the end of
its next branch; what changes its rows puts it there anew, and the old entry is void. Ticks come on
arrivals and batch ends, at least `MIN_TICK_S` apart, and every `TICK_S` while a job is live.

Workers never fail here: their heartbeats and leases are always fresh, and a policy that gives up a
batch is in error. Every event costs O(log n); a tick costs what the policy makes of the live jobs,
batches and workers.
"""

import heapq
import itertools
from collections.abc import Callable, Sequence

from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import NewBatch, Rejected
from scheduler.core.simulation.engine import Branch, EngineModel
from scheduler.core.simulation.live import (
    NEVER,
    LiveBatch,
    LiveJob,
    LiveProblem,
    instant,
    view_of,
)
from scheduler.core.simulation.policy import Policy
from scheduler.core.simulation.records import JobOutcome, Outcome
from scheduler.core.simulation.world import SimulatedJob, SimulatedWorker
from scheduler.core.snapshot import Snapshot, WorkerView

TICK_S = 0.5
MIN_TICK_S = 0.05


def simulate(
    jobs: Sequence[SimulatedJob],
    workers: Sequence[SimulatedWorker],
    policy: Policy,
    config: SchedulerConfig,
) -> Outcome:
    """Run all jobs to their ends. The same arguments give the same outcome.

    Raises:
        ValueError: A job has no problems, ids repeat, or the policy gave up a batch.
    """
    if any(not job.problems for job in jobs):
        raise ValueError("a simulated job needs at least one problem")
    if len({job.id for job in jobs}) < len(jobs):
        raise ValueError("simulated jobs need different ids")
    if len({worker.name for worker in workers}) < len(workers):
        raise ValueError("simulated workers need different names")
    return _Simulation(jobs, workers, policy, config).run()


class _Simulation:
    def __init__(
        self,
        jobs: Sequence[SimulatedJob],
        workers: Sequence[SimulatedWorker],
        policy: Policy,
        config: SchedulerConfig,
    ) -> None:
        self._arrivals = sorted(jobs, key=lambda job: (job.arrival_s, job.id))
        self._policy = policy
        self._config = config
        self._engines = {worker.name: EngineModel(worker) for worker in workers}
        self._worker_views = tuple(_worker_view(worker) for worker in workers)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._batch_ids = itertools.count(1)
        self._now_s = 0.0
        self._jobs: dict[str, LiveJob] = {}
        self._batches: dict[int, LiveBatch] = {}
        self._batch_of: dict[LiveProblem, LiveBatch] = {}
        self._entries: dict[str, int] = {}
        self._next_tick_s: float | None = None
        self._last_tick_s = -MIN_TICK_S
        self._num_ticks = 0
        self._outcomes: dict[str, JobOutcome] = {}

    def run(self) -> Outcome:
        for job in self._arrivals:
            self._at(job.arrival_s, lambda job=job: self._arrive(job))  # type: ignore[misc]
        while self._events:
            self._now_s, _, happen = heapq.heappop(self._events)
            happen()
        return Outcome(
            policy=self._policy.name,
            jobs=tuple(self._outcomes[job.id] for job in self._arrivals),
            engines=tuple(engine.outcome() for engine in self._engines.values()),
            num_ticks=self._num_ticks,
        )

    def _at(self, at_s: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at_s, next(self._order), happen))

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            now=instant(self._now_s),
            jobs=tuple(job.view() for job in self._jobs.values()),
            batches=tuple(batch.view() for batch in self._batches.values()),
            workers=self._worker_views,
        )

    def _arrive(self, job: SimulatedJob) -> None:
        view = view_of(job, plan=None, num_pending=len(job.problems), num_in_flight=0)
        verdict = self._policy.admit(self._snapshot(), view, self._config)
        if isinstance(verdict, Rejected):
            self._outcomes[job.id] = _refused(job)
            return
        problems = [LiveProblem(recorded) for recorded in job.problems]
        live = LiveJob(job, verdict.plan, verdict.forecast, problems)
        self._jobs[job.id] = live
        self._at(job.deadline_s, lambda: self._strike(live))
        self._wake()

    def _wake(self, delay_s: float = 0.0) -> None:
        at_s = max(self._now_s + delay_s, self._last_tick_s + MIN_TICK_S)
        if self._next_tick_s is None or at_s < self._next_tick_s:
            self._next_tick_s = at_s
            self._at(at_s, lambda: self._tick(at_s))

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
            self._wake(TICK_S)

    def _create(self, new: NewBatch) -> None:
        job = self._jobs[new.job_id]
        problems = job.take(new.num_problems, new.plan)
        batch = LiveBatch(
            next(self._batch_ids), job, new.worker_name, new.plan, self._now_s, problems
        )
        self._batches[batch.id] = batch
        self._batch_of.update(dict.fromkeys(problems, batch))
        self._at(self._now_s + self._config.dispatch_s, lambda: self._claim(batch))

    def _claim(self, batch: LiveBatch) -> None:
        if batch.id not in self._batches:
            return
        batch.claim()
        job, plan = batch.job.job, batch.plan
        priority = self._policy.priority(instant(job.arrival_s), instant(job.deadline_s))
        # Breadth first: every problem gets its first vote before any gets its second.
        branches = [
            problem.branch(index, job.prompt_tokens, plan, priority)
            for index in range(plan.num_branches)
            for problem in batch.problems
        ]
        engine = self._engines[batch.worker_name]
        engine.submit(branches, self._now_s)
        self._expect(engine)
        guard_s = max(job.deadline_s - self._config.reserve_s, self._now_s)
        self._at(guard_s, lambda: self._guard(batch))

    def _expect(self, engine: EngineModel) -> None:
        """Put the engine's next end into the heap, in place of any other entry of it."""
        at_s = engine.next_end_s()
        name = engine.worker.name
        entry = self._entries[name] = self._entries.get(name, 0) + 1
        if at_s is not None:
            self._at(at_s, lambda: self._end_branches(engine, entry))

    def _end_branches(self, engine: EngineModel, entry: int) -> None:
        if entry != self._entries[engine.worker.name]:
            return
        for branch in engine.advance(self._now_s):
            problem = branch.problem
            # Branches that end together: an earlier one may have closed the problem.
            if isinstance(problem, LiveProblem) and problem.outcome is None:
                self._vote(engine, problem, branch)
        self._expect(engine)

    def _vote(self, engine: EngineModel, problem: LiveProblem, branch: Branch) -> None:
        batch = self._batch_of[problem]
        problem.vote(branch)
        batch.count(branches=1)
        if problem.is_over(batch.plan):
            self._close(engine, batch, problem)
        elif self._now_s >= batch.job.job.deadline_s - self._config.reserve_s:
            self._close(engine, batch, problem, is_degraded=True)

    def _close(
        self,
        engine: EngineModel,
        batch: LiveBatch,
        problem: LiveProblem,
        *,
        is_degraded: bool = False,
    ) -> None:
        """End a problem of a batch and free its rows."""
        num_open = batch.plan.num_branches - problem.num_finished
        engine.abort(list(problem.running.values()), self._now_s)
        problem.close(self._now_s, is_degraded=is_degraded)
        del self._batch_of[problem]
        batch.count(branches=num_open, problems=1)
        if not batch.num_open_problems:
            del self._batches[batch.id]
            self._wake()
        self._end_problem(batch.job)

    def _end_problem(self, job: LiveJob) -> None:
        job.close_one()
        if job.num_closed == len(job.problems):
            self._outcomes[job.job.id] = job.outcome()
            del self._jobs[job.job.id]

    def _guard(self, batch: LiveBatch) -> None:
        """Answer from the votes there are; a problem without any waits for its first one."""
        engine = self._engines[batch.worker_name]
        for problem in batch.problems:
            if problem.outcome is None and problem.num_finished:
                self._close(engine, batch, problem, is_degraded=True)
        self._expect(engine)

    def _strike(self, job: LiveJob) -> None:
        """The deadline: what has no vote expires."""
        for problem in job.problems:
            if problem.outcome is not None:
                continue
            batch = self._batch_of.get(problem)
            if batch is None:
                problem.close(self._now_s, is_degraded=True)
                self._end_problem(job)
                continue
            engine = self._engines[batch.worker_name]
            self._close(engine, batch, problem, is_degraded=True)
            self._expect(engine)


def _refused(job: SimulatedJob) -> JobOutcome:
    return JobOutcome(
        id=job.id,
        tenant=job.tenant,
        arrival_s=job.arrival_s,
        deadline_s=job.deadline_s,
        num_problems=len(job.problems),
        is_admitted=False,
        forecast=None,
        plans=(),
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

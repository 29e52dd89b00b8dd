"""What the workers do with their batches: branches to engines, votes, stops, the guard.

Theory of operation: `worker.controller` at single instants; see `live` for what is left out. An
engine stands in the clock with the end of its next branch; what changes its rows puts it there
anew, and the old entry is void.
"""

from collections.abc import Callable, Sequence
from functools import partial

from scheduler.core.config import SchedulerConfig
from scheduler.core.simulation.branch import Branch
from scheduler.core.simulation.clock import Clock
from scheduler.core.simulation.engine import EngineModel
from scheduler.core.simulation.live import LiveBatch, LiveJob, LiveProblem
from scheduler.core.simulation.policy import Policy
from scheduler.core.simulation.records import EngineOutcome
from scheduler.core.simulation.views import instant
from scheduler.core.simulation.world import SimulatedWorker
from scheduler.core.stopping import CUT_SHARE, may_follow, should_stop


class Controllers:
    """All workers, with the problems that they hold.

    Args:
        on_problem_end: Called after a problem of the job has ended.
        on_batch_end: Called after the last problem of the batch has ended, before the above.
    """

    def __init__(
        self,
        clock: Clock,
        workers: Sequence[SimulatedWorker],
        policy: Policy,
        config: SchedulerConfig,
        *,
        on_problem_end: Callable[[LiveJob], None],
        on_batch_end: Callable[[LiveBatch], None],
    ) -> None:
        self._clock = clock
        self._policy = policy
        self._config = config
        self._on_problem_end = on_problem_end
        self._on_batch_end = on_batch_end
        self._engines = {worker.name: EngineModel(worker) for worker in workers}
        self._batch_of: dict[LiveProblem, LiveBatch] = {}
        self._entries: dict[str, int] = {}

    def outcomes(self) -> tuple[EngineOutcome, ...]:
        """Totals of all engines."""
        return tuple(engine.outcome() for engine in self._engines.values())

    def retime(self, worker: SimulatedWorker) -> None:
        """The engine of this name goes on with these times."""
        engine = self._engines[worker.name]
        engine.retime(worker, self._clock.now_s)
        self._expect(engine)

    def send(self, batch: LiveBatch) -> None:
        """Send a batch to its worker, which claims it after the dispatch time."""
        self._batch_of.update(dict.fromkeys(batch.problems, batch))
        self._clock.at(self._clock.now_s + self._config.dispatch_s, partial(self._claim, batch))

    def expire(self, problem: LiveProblem) -> bool:
        """End a problem at its deadline; whether a worker held it."""
        batch = self._batch_of.get(problem)
        if batch is None:
            return False
        engine = self._engines[batch.worker_name]
        self._close(engine, batch, problem, is_degraded=True)
        self._expect(engine)
        return True

    def _claim(self, batch: LiveBatch) -> None:
        """Submit the branches of a batch that reached its worker."""
        if not batch.num_open_problems:
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
        engine.submit(branches, self._clock.now_s)
        self._expect(engine)
        guard_s = max(job.deadline_s - self._config.reserve_s, self._clock.now_s)
        self._clock.at(guard_s, partial(self._guard, batch))
        cut_s = max(job.deadline_s - CUT_SHARE * self._config.reserve_s, self._clock.now_s)
        self._clock.at(cut_s, partial(self._cut, batch))

    def _expect(self, engine: EngineModel) -> None:
        """Put the engine's next end into the heap, in place of any other entry of it."""
        at_s = engine.next_event_s()
        name = engine.worker.name
        entry = self._entries[name] = self._entries.get(name, 0) + 1
        if at_s is not None:
            self._clock.at(at_s, partial(self._end_branches, engine, entry))

    def _end_branches(self, engine: EngineModel, entry: int) -> None:
        if entry != self._entries[engine.worker.name]:
            return
        for branch in engine.advance(self._clock.now_s):
            problem = branch.problem
            # Branches that end together: an earlier one may have closed the problem.
            if isinstance(problem, LiveProblem) and problem.outcome is None:
                self._vote(engine, problem, branch)
        self._expect(engine)

    def _vote(self, engine: EngineModel, problem: LiveProblem, branch: Branch) -> None:
        batch = self._batch_of[problem]
        problem.vote(branch)
        batch.count(branches=1)
        profile = engine.worker.believed_answers
        goes_on = may_follow(
            batch.plan,
            profile,
            num_started=problem.num_started,
            time_left_s=self._time_left_s(batch),
            tpot_s=engine.tpot_s(batch.plan.num_speculative_tokens),
        )
        is_over = should_stop(
            batch.plan,
            profile,
            problem.class_counts,
            num_unanswered=problem.num_unanswered,
            num_more=len(problem.running)
            + goes_on * (batch.plan.max_branches - problem.num_started),
        )
        if is_over or self._time_left_s(batch) <= 0:
            self._close(engine, batch, problem, is_degraded=not is_over)
        elif goes_on:
            prompt, first = batch.job.job.prompt_tokens, problem.num_started
            room = batch.plan.num_branches - len(problem.running)
            following = [
                problem.branch(index, prompt, batch.plan, branch.priority)
                for index in range(first, min(first + room, batch.plan.max_branches))
            ]
            batch.count(branches=-len(following))
            engine.submit(following, self._clock.now_s)

    def _time_left_s(self, batch: LiveBatch) -> float:
        """Until the guard takes the votes there are."""
        return batch.job.job.deadline_s - self._config.reserve_s - self._clock.now_s

    def _close(
        self,
        engine: EngineModel,
        batch: LiveBatch,
        problem: LiveProblem,
        *,
        is_degraded: bool = False,
    ) -> None:
        """End a problem of a batch and free its rows."""
        num_open = len(problem.running)
        engine.abort(list(problem.running.values()), self._clock.now_s)
        problem.close(self._clock.now_s, is_degraded=is_degraded)
        del self._batch_of[problem]
        batch.count(branches=num_open, problems=1)
        if not batch.num_open_problems:
            self._on_batch_end(batch)
        self._on_problem_end(batch.job)

    def _guard(self, batch: LiveBatch) -> None:
        """Answer from the votes there are; a problem without any waits for its first one."""
        engine = self._engines[batch.worker_name]
        for problem in batch.problems:
            if problem.outcome is None and problem.num_finished:
                self._close(engine, batch, problem, is_degraded=True)
        self._expect(engine)

    def _cut(self, batch: LiveBatch) -> None:
        """Cut what runs of problems without a vote, as caps would."""
        engine = self._engines[batch.worker_name]
        for problem in batch.problems:
            if problem.outcome is None and problem.cut():
                self._close(engine, batch, problem, is_degraded=True)
        self._expect(engine)

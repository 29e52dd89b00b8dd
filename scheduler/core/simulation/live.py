"""Jobs, batches and problems while they run, with the counts that a snapshot shows.

Theory of operation: what `worker.controller` does with threads and a store happens here at single
instants: branches are submitted breadth first, each finished branch votes, and the production stop
rule ends its problem or lets it go on; at the deadline guard the votes there are decide. Views for
the snapshot are kept until a count changes, so a tick costs as much as there are live jobs and
batches. Not modeled: comparing answers and committing take no time.
"""

from dataclasses import dataclass, field
from operator import attrgetter

from scheduler.core.decisions import NewBatch
from scheduler.core.fit_answers import RecordedProblem
from scheduler.core.plan import Forecast, Plan
from scheduler.core.simulation.branch import Branch
from scheduler.core.simulation.records import BatchOutcome, JobOutcome, ProblemOutcome
from scheduler.core.simulation.views import NEVER, instant, view_of
from scheduler.core.simulation.world import SimulatedJob
from scheduler.core.snapshot import BatchView, JobView
from scheduler.core.states import BatchState


@dataclass(slots=True, eq=False)
class LiveProblem:
    """A problem that branches vote on; classes are counted in the order of their first vote.

    Attributes:
        kept: All its branches, to be part of the outcome; None where nobody asked for them.
    """

    recorded: RecordedProblem
    kept: list[Branch] | None = None
    counts: dict[int, int] = field(default_factory=dict)
    num_finished: int = 0
    tokens: float = 0.0
    running: dict[int, Branch] = field(default_factory=dict)
    outcome: ProblemOutcome | None = None

    @property
    def num_started(self) -> int:
        """Branches that ended, run or wait."""
        return self.num_finished + len(self.running)

    def branch(self, index: int, prompt_tokens: int, plan: Plan, priority: float) -> Branch:
        """The branch that replays a sample, cut at the plan's cap; in flight from now on."""
        sample = index % len(self.recorded.tokens)
        tokens = min(self.recorded.tokens[sample], plan.max_tokens)
        draft = plan.num_speculative_tokens
        branch = Branch(self, index, prompt_tokens, tokens, draft, priority)
        self.running[index] = branch
        if self.kept is not None:
            self.kept.append(branch)
        return branch

    def vote(self, branch: Branch) -> None:
        """Count a finished branch; one that the cap cut off gives no answer."""
        del self.running[branch.index]
        sample = branch.index % len(self.recorded.tokens)
        vote_class = self.recorded.classes[sample]
        # A recording that was cut says nothing of what would have come.
        is_recorded = not self.recorded.finished or self.recorded.finished[sample]
        is_whole = is_recorded and branch.tokens == self.recorded.tokens[sample]
        self.num_finished += 1
        self.tokens += branch.decoded_tokens
        branch.has_voted = True
        if is_whole and vote_class is not None:
            branch.vote_class = vote_class
            self.counts[vote_class] = self.counts.get(vote_class, 0) + 1

    def cut(self) -> bool:
        """Count started branches as finished without an answer; whether there were any."""
        started = [branch for branch in self.running.values() if branch.start_step is not None]
        for branch in started:
            branch.is_cut = True
        self.num_finished += len(started)
        return bool(started)

    @property
    def class_counts(self) -> tuple[int, ...]:
        """Votes per class in the order of their first vote."""
        return tuple(self.counts.values())

    @property
    def num_unanswered(self) -> int:
        """Branches that finished without an answer."""
        return self.num_finished - sum(self.counts.values())

    def close(self, now_s: float, *, is_degraded: bool) -> None:
        """End the problem with the votes there are, its branches in flight being aborted."""
        # max keeps the first of equals, and dicts keep the order of first votes.
        leader = max(self.counts, key=self.counts.__getitem__) if self.counts else None
        aborted = sum(branch.decoded_tokens for branch in self.running.values())
        self.outcome = ProblemOutcome(
            is_answered=self.num_finished > 0,
            has_vote=leader is not None,
            is_right=leader == 0,
            is_degraded=is_degraded,
            num_branches=self.num_finished,
            tokens=self.tokens + aborted,
            finish_s=now_s,
            branches=tuple(
                branch.outcome() for branch in sorted(self.kept or (), key=attrgetter("index"))
            ),
        )


@dataclass(slots=True, eq=False)
class LiveJob:
    """An admitted job."""

    job: SimulatedJob
    plan: Plan
    forecast: Forecast
    problems: list[LiveProblem]
    is_promised: bool = True
    num_dispatched: int = 0
    num_closed: int = 0
    batches: list[BatchOutcome] = field(default_factory=list)
    _view: JobView | None = None

    def take(self, new: NewBatch, now_s: float) -> list[LiveProblem]:
        """The next pending problems, in order of position."""
        taken = self.problems[self.num_dispatched : self.num_dispatched + new.num_problems]
        self.num_dispatched += len(taken)
        self.batches.append(BatchOutcome(new.worker_name, new.plan, len(taken), now_s))
        self._view = None
        return taken

    def close_one(self) -> None:
        """One problem has ended."""
        self.num_closed += 1
        self._view = None

    def replan(self, plan: Plan) -> None:
        """Store a plan for the pending problems."""
        self.plan = plan
        self._view = None

    def view(self) -> JobView:
        """The job as `decide` sees it."""
        if self._view is None:
            self._view = view_of(
                self.job,
                plan=self.plan,
                num_pending=len(self.problems) - self.num_dispatched,
                num_in_flight=self.num_dispatched - self.num_closed,
                is_promised=self.is_promised,
                promised_s=self.job.arrival_s + self.forecast.finish_p95_s,
            )
        return self._view

    def outcome(self) -> JobOutcome:
        """How the job ended, once all its problems have."""
        problems = tuple(problem.outcome for problem in self.problems if problem.outcome)
        return JobOutcome(
            id=self.job.id,
            tenant=self.job.tenant,
            arrival_s=self.job.arrival_s,
            deadline_s=self.job.deadline_s,
            num_problems=len(problems),
            is_admitted=True,
            forecast=self.forecast,
            is_promised=self.is_promised,
            batches=tuple(self.batches),
            problems=problems,
            finish_s=max(problem.finish_s for problem in problems),
            met_deadline=all(problem.is_answered for problem in problems),
        )


@dataclass(slots=True, eq=False)
class LiveBatch:
    """Problems of one job given to one worker."""

    id: int
    job: LiveJob
    worker_name: str
    plan: Plan
    created_s: float
    problems: list[LiveProblem]
    is_claimed: bool = False
    num_open_problems: int = 0
    num_open_branches: int = 0
    _view: BatchView | None = None

    def __post_init__(self) -> None:
        self.num_open_problems = len(self.problems)
        self.num_open_branches = len(self.problems) * self.plan.num_branches

    def count(self, *, branches: int, problems: int = 0) -> None:
        """Take ended branches and problems off the open ones."""
        self.num_open_branches -= branches
        self.num_open_problems -= problems
        self._view = None

    def claim(self) -> None:
        """The worker has it now."""
        self.is_claimed = True
        self._view = None

    def view(self) -> BatchView:
        """The batch as `decide` sees it."""
        if self._view is None:
            job = self.job.job
            created_at = instant(self.created_s)
            self._view = BatchView(
                id=self.id,
                job_id=job.id,
                model=job.model,
                worker_name=self.worker_name,
                state=BatchState.CLAIMED if self.is_claimed else BatchState.PLANNED,
                plan=self.plan,
                deadline_at=instant(job.deadline_s),
                created_at=created_at,
                sent_at=created_at,
                lease_expires_at=NEVER if self.is_claimed else None,
                lease_owner=self.worker_name if self.is_claimed else None,
                num_open_problems=self.num_open_problems,
                num_open_branches=self.num_open_branches,
            )
        return self._view

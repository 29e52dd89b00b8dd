"""One problem of a running batch: its branches in flight, its ballot and how it closes."""

from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from db.branches import BranchRow
from db.claims import ClaimedBatch, ClaimedProblem
from db.problems import ProblemAnswer
from scheduler.core.accuracy import AnswerProfile
from scheduler.core.plan import Plan
from scheduler.core.states import ProblemState
from scheduler.core.stopping import should_extend, should_stop
from worker.answers import extract_answer
from worker.comparison import Finding, Pair
from worker.engines.base import BranchFinished, BranchRequest, FinishReason, Sampling
from worker.traces import branch_row
from worker.voting import AnswerClass, Ballot


@dataclass(frozen=True, slots=True)
class Verdict:
    """The grading pool's answer to a comparison."""

    problem_id: int
    pair: Pair
    finding: Finding


@dataclass(slots=True)
class _Check:
    """An answer whose class is being found; `pair` is what has to be compared next."""

    answer: str
    steps: Generator[Pair, Finding | None, AnswerClass]
    pair: Pair


@dataclass(slots=True, eq=False)
class Contest:
    """A problem that branches vote on.

    Theory of operation: `finish` takes an event of the engine, `judge` a verdict on the pair that
    `pending_pair` names. Finished branches queue until the ones before them are classified, and
    only then become rows, so what is stored is always a prefix in finish order. A contest that is
    closed takes no more votes: what ends after is kept for its cost as aborted.

    Attributes:
        running: Requests in flight by branch index.
        rows: Rows to store, taken out by the controller.
        answer: The outcome, once closed.
        asked: The pair that the controller is having compared.
        next_index: The first branch index beyond the plan that no branch has had.
    """

    problem: ClaimedProblem
    plan: Plan
    answers: AnswerProfile
    ballot: Ballot
    running: dict[int, BranchRequest] = field(default_factory=dict)
    rows: list[BranchRow] = field(default_factory=list)
    answer: ProblemAnswer | None = None
    asked: Pair | None = None
    next_index: int = 0
    _unclassified: deque[tuple[BranchRequest, BranchFinished]] = field(default_factory=deque)
    _check: _Check | None = None
    _error: str | None = None
    _num_cut: int = 0
    _is_cut: bool = False

    @classmethod
    def open(cls, problem: ClaimedProblem, plan: Plan, answers: AnswerProfile) -> "Contest":
        """Start from the branches that earlier batches finished."""
        ballot = Ballot(problem.reference_answer, problem.grading)
        for branch in problem.finished:
            ballot.restore(branch.answer, branch.vote_class, branch.is_correct)
        kept = (branch.branch_index + 1 for branch in problem.finished)
        return cls(problem, plan, answers, ballot, next_index=max(plan.num_branches, 0, *kept))

    @property
    def pending_pair(self) -> Pair | None:
        """Answers to compare before this problem can go on."""
        return None if self._check is None else self._check.pair

    @property
    def num_undecided(self) -> int:
        """Branches whose vote is not known yet."""
        return len(self.running) + len(self._unclassified)

    @property
    def missing(self) -> list[int]:
        """Indexes of the plan's branches that no earlier batch finished."""
        if not self.problem.solve:
            return []
        kept = {branch.branch_index for branch in self.problem.finished}
        return [index for index in range(self.plan.num_branches) if index not in kept]

    def is_over(self, num_more: int) -> bool:
        """Whether the votes are enough, with so many branches to come."""
        return self.ballot.num_finished > 0 and should_stop(
            self.plan,
            self.answers,
            self.ballot.class_counts,
            num_unanswered=self.ballot.num_unanswered,
            num_more=num_more,
        )

    def is_worth_more(
        self, num_added: int, *, free_rows: int, time_left_s: float, tpot_s: float
    ) -> bool:
        """Whether the vote is to get a branch beyond the plan's, besides those added already."""
        # By index and not by votes: branches that the engine fails are not replaced for ever.
        return self.next_index + num_added < self.plan.max_branches and should_extend(
            self.plan,
            self.answers,
            self.ballot.class_counts,
            num_unanswered=self.ballot.num_unanswered,
            num_running=self.num_undecided + num_added,
            free_rows=free_rows,
            time_left_s=time_left_s,
            tpot_s=tpot_s,
        )

    def request(self, batch: ClaimedBatch, branch_index: int) -> BranchRequest:
        """Make the request of a branch, which is in flight from now on."""
        request = BranchRequest(
            # With the batch: a branch of a rescued batch may still be ending in this engine.
            branch_id=f"{batch.id}:{self.problem.id}:{branch_index}",
            prompt=self.problem.prompt,
            branch_index=branch_index,
            num_speculative_tokens=self.plan.num_speculative_tokens,
            max_tokens=self.plan.max_tokens,
            sampling=Sampling(temperature=batch.temperature, top_p=batch.top_p),
            priority=int(batch.deadline_at.timestamp() * 1000),
            deadline_at=batch.deadline_at,
        )
        self.running[branch_index] = request
        self.next_index = max(self.next_index, branch_index + 1)
        return request

    def finish(self, branch_index: int, event: BranchFinished) -> None:
        """Take the event of a branch in flight."""
        request = self.running.pop(branch_index)
        if self.answer is not None:
            if event.metrics.started_at is not None:
                self._keep(request, event, FinishReason.ABORT)
        elif event.finish_reason in (FinishReason.STOP, FinishReason.LENGTH):
            self._unclassified.append((request, event))
            self._classify()
        elif self._is_cut and event.metrics.started_at is not None:
            self._unclassified.append((request, replace(event, finish_reason=FinishReason.LENGTH)))
            self._classify()
        else:
            self._error = event.error or "the engine ended the branch"
            self._num_cut += event.finish_reason is FinishReason.ABORT
            if event.finish_reason is FinishReason.ERROR:
                self._keep(request, event, FinishReason.ERROR)

    def judge(self, verdict: Finding | None) -> None:
        """Take the verdict on `pending_pair`; None when it did not come in time."""
        check = self._check
        if check is None:
            return
        self._check = None
        try:
            check.pair = check.steps.send(verdict)
        except StopIteration as found:
            self._count(check.answer, found.value)
            self._classify()
        else:
            self._check = check

    def close(self, now: datetime) -> None:
        """Close when the plan asks for no more votes."""
        if self.is_over(self.num_undecided):
            is_short = self._is_cut or not self.is_over(self.num_undecided + self._num_cut)
            self._answer(now, degraded=is_short)
        elif not self.problem.solve:
            self._answer(now, degraded=False)
        elif not self.num_undecided and not self._is_cut:
            self._fail(now)

    def close_degraded(self, now: datetime) -> None:
        """Close with the votes that there are; stays open without any."""
        while self._check is not None:
            self.judge(None)
        if self.ballot.num_finished:
            self._answer(now, degraded=bool(self.running))

    def cut(self) -> Iterable[str]:
        """Let the deadline cut the running branches as their caps would.

        What a branch wrote so far may hold an answer; one that never started does not count.

        Returns:
            Ids of the branches to abort.
        """
        self._is_cut = True
        return [request.branch_id for request in self.running.values()]

    def take_rows(self) -> Iterable[BranchRow]:
        """Rows to store; the caller owns them."""
        rows, self.rows = self.rows, []
        return rows

    def _classify(self) -> None:
        """Classify finished branches in order until one needs a comparison."""
        while self._unclassified and self._check is None:
            answer = extract_answer(self._unclassified[0][1].text)
            if answer is None:
                self._count(None, None)
                continue
            steps = self.ballot.classify(answer)
            try:
                self._check = _Check(answer, steps, next(steps))
            except StopIteration as found:
                self._count(answer, found.value)

    def _count(self, answer: str | None, vote: AnswerClass | None) -> None:
        request, event = self._unclassified.popleft()
        self.ballot.vote(vote.number if vote else None)
        self.rows.append(branch_row(self.problem.id, request, event, answer=answer, vote=vote))

    def _keep(self, request: BranchRequest, event: BranchFinished, reason: FinishReason) -> None:
        self.rows.append(branch_row(self.problem.id, request, event, reason=reason))

    def _answer(self, now: datetime, *, degraded: bool) -> None:
        winner = self.ballot.winner()
        if winner is not None:
            vote, chosen = winner
            answer, share, is_correct = chosen.answer, vote.share, chosen.is_correct
            reason = chosen.reason
        else:
            # Every branch ended without an answer: wrong, where there is something to grade by.
            answer, share = None, 0.0
            is_correct = False if self.problem.is_graded else None
            reason = "no branch gave a final answer" if self.problem.is_graded else None
        self.answer = ProblemAnswer(
            problem_id=self.problem.id,
            state=ProblemState.ANSWERED,
            answer=answer,
            vote_share=share,
            is_correct=is_correct,
            grade_reason=reason,
            degraded=degraded,
            num_branches_finished=self.ballot.num_finished,
            error=None,
            finished_at=now,
        )
        self._abandon()

    def _fail(self, now: datetime) -> None:
        self.answer = ProblemAnswer(
            problem_id=self.problem.id,
            state=ProblemState.FAILED,
            answer=None,
            vote_share=None,
            is_correct=None,
            degraded=False,
            num_branches_finished=0,
            error=self._error or "the plan gave the problem no branches",
            finished_at=now,
        )

    def _abandon(self) -> None:
        """Branches that wait for a comparison come too late to vote."""
        self._check = None
        while self._unclassified:
            request, event = self._unclassified.popleft()
            self._keep(request, event, FinishReason.ABORT)

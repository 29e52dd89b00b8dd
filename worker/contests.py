"""One problem of a running batch: its branches in flight, its ballot and how it closes."""

from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from db.branches import BranchRow
from db.claims import ClaimedBatch, ClaimedProblem
from db.problems import ProblemAnswer
from scheduler.core.accuracy import AnswerProfile
from scheduler.core.branch_options import BranchOptions
from scheduler.core.plan import Plan
from scheduler.core.stopping import should_stop
from worker.answers import extract_answer
from worker.comparison import Finding, Pair
from worker.engines.base import BranchFinished, BranchRequest, FinishReason
from worker.outcomes import answered, failed
from worker.requests import branch_request, closing_request, joined
from worker.traces import branch_row
from worker.voting import AnswerClass, Ballot


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
        spare: Indexes beyond the plan's first branches that no branch has had, for those that
            follow.
    """

    problem: ClaimedProblem
    plan: Plan
    answers: AnswerProfile
    options: BranchOptions
    ballot: Ballot
    running: dict[int, BranchRequest] = field(default_factory=dict)
    rows: list[BranchRow] = field(default_factory=list)
    answer: ProblemAnswer | None = None
    asked: Pair | None = None
    spare: list[int] = field(default_factory=list)
    _unclassified: deque[tuple[BranchRequest, BranchFinished]] = field(default_factory=deque)
    _check: _Check | None = None
    _error: str | None = None
    _num_cut: int = 0
    _is_cut: bool = False
    _begun: dict[int, BranchFinished] = field(default_factory=dict)

    @classmethod
    def open(
        cls, problem: ClaimedProblem, batch: ClaimedBatch, answers: AnswerProfile
    ) -> "Contest":
        """Start from the branches that earlier batches finished."""
        ballot = Ballot(problem.reference_answer, problem.grading)
        for branch in problem.finished:
            ballot.restore(branch.answer, branch.vote_class, branch.is_correct)
        contest = cls(problem, batch.plan, answers, batch.options, ballot)
        if problem.solve:
            contest.spare = contest._unused()
        return contest

    @property
    def pending_pair(self) -> Pair | None:
        """Answers to compare before this problem can go on."""
        return None if self._check is None else self._check.pair

    @property
    def branch_ids(self) -> list[str]:
        """Of the branches in flight."""
        return [request.branch_id for request in self.running.values()]

    @property
    def num_undecided(self) -> int:
        """Branches whose vote is not known yet."""
        return len(self.running) + len(self._unclassified)

    @property
    def missing(self) -> list[int]:
        """Indexes of the plan's first branches that are to run beside those kept from before."""
        if not self.problem.solve:
            return []
        kept = {branch.branch_index for branch in self.problem.finished}
        unused = [index for index in range(self.plan.num_branches) if index not in kept]
        return unused[: max(self.plan.most_branches - len(kept), 0)]

    def is_over(self, num_more: int) -> bool:
        """Whether the votes are enough, with so many branches to come."""
        return self.ballot.num_finished > 0 and should_stop(
            self.plan,
            self.answers,
            self.ballot.class_counts,
            num_unanswered=self.ballot.num_unanswered,
            num_more=num_more,
        )

    def request(self, batch: ClaimedBatch, branch_index: int) -> BranchRequest:
        """Make the request of a branch, which is in flight from now on."""
        request = branch_request(batch, self.problem, branch_index)
        self.running[branch_index] = request
        if branch_index in self.spare:
            self.spare.remove(branch_index)
        return request

    def closing(self, branch_index: int, event: BranchFinished) -> BranchRequest | None:
        """The request by which a branch that was cut goes on to its answer, if it is to."""
        text = self.options.closing_text
        if (
            text is None
            or not self._is_cut
            or self.answer is not None
            or branch_index in self._begun
            or event.finish_reason is not FinishReason.ABORT
            or event.metrics.started_at is None
        ):
            return None
        self._begun[branch_index] = event
        request = closing_request(self.running[branch_index], event, text)
        self.running[branch_index] = request
        return request

    def finish(self, branch_index: int, event: BranchFinished) -> None:
        """Take the event of a branch in flight."""
        request = self.running.pop(branch_index)
        if (begun := self._begun.pop(branch_index, None)) is not None:
            event = joined(begun, event, self.options.closing_text or "")
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
            if event.finish_reason is FinishReason.ERROR or event.metrics.started_at is not None:
                self._keep(request, event, event.finish_reason)

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

    def close(self, now: datetime, *, num_following: int = 0) -> None:
        """Close when the plan asks for no more votes.

        Args:
            num_following: Branches that may follow those in flight.
        """
        num_more = self.num_undecided + num_following
        if self.is_over(num_more):
            is_short = self._is_cut or not self.is_over(num_more + self._num_cut)
            self._answer(now, degraded=is_short)
        elif not self.problem.solve:
            self._answer(now, degraded=False)
        elif not num_more and not self._is_cut:
            self.answer = failed(self.problem, self._error, now)

    def close_degraded(self, now: datetime) -> None:
        """Close with the votes that there are; stays open without any."""
        while self._check is not None:
            self.judge(None)
        if self.ballot.num_finished:
            self._answer(now, degraded=self._is_cut or bool(self.running))

    def cut(self) -> Iterable[str]:
        """Let the deadline cut the running branches as their caps would.

        What a branch wrote so far may hold an answer; one that never started does not count.

        Returns:
            Ids of the branches to abort.
        """
        self._is_cut = True
        return self.branch_ids

    def take_rows(self) -> Iterable[BranchRow]:
        """Rows to store; the caller owns them."""
        rows, self.rows = self.rows, []
        return rows

    def _unused(self) -> list[int]:
        """As many indexes for branches that follow as the plan grants beside kept and missing."""
        kept = {branch.branch_index for branch in self.problem.finished}
        beyond = range(self.plan.num_branches, self.plan.max_branches)
        number = self.plan.most_branches - len(kept) - len(self.missing)
        return [index for index in beyond if index not in kept][: max(number, 0)]

    def _classify(self) -> None:
        """Classify finished branches in order until one needs a comparison."""
        while self._unclassified and self._check is None:
            answer = extract_answer(self._unclassified[0][1].text, self.options.answer_format)
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
        self.answer = answered(self.problem, self.ballot, now, degraded=degraded)
        self._abandon()

    def _abandon(self) -> None:
        """Branches that wait for a comparison come too late to vote."""
        self._check = None
        while self._unclassified:
            request, event = self._unclassified.popleft()
            self._keep(request, event, FinishReason.ABORT)

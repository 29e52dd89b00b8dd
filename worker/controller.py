"""Solves one claimed batch: branches in, votes counted, answers out, always by the deadline.

Theory of operation: one thread per batch takes events from one inbox (branches from the engine,
verdicts from the grading pool) and never waits for anything longer than until the next flush. It
submits the missing branches of all problems at once, breadth first, and leaves the queueing to the
engine; a problem whose other branches are not worth waiting for under the plan (`scheduler.core.
stopping`) is answered and they are aborted, so their rows go to the next problem. Under a
successive plan another branch follows one that ended while the vote is open; branches that wait too
long to end in time are not started where there is a vote. With a closing text, branches are made
to say their answers shortly before the votes are taken (`worker.requests`). At `deadline_at -
reserve_s` every problem with a vote is answered from the votes it has. One without any waits for
its first finisher for part of the reserve; then its branches are cut, and count like branches that
were cut by their caps. The deadline is that of the lease, which follows changes.

Results are written in grouped transactions guarded by the batch's epoch. When the batch is no
longer ours (rescued, cancelled, expired) everything is aborted and nothing more is written. When
the store is away, results wait in memory and the deadline guard goes on.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from db.claims import ClaimedBatch
from scheduler.core.accuracy import AnswerProfile
from scheduler.core.stopping import is_hopeless
from worker.branching import Pace, following, planned
from worker.comparison import Pair
from worker.contests import Contest
from worker.deadline import Deadline, Phase
from worker.engines.base import Engine
from worker.equivalence import Equivalence
from worker.flights import Flights
from worker.inbox import Inbox, Message
from worker.lease import Lease
from worker.marking import Compared, Marker
from worker.outbox import RETRY_INTERVAL_S, Outbox
from worker.outcomes import Outcome
from worker.voting import Verdict

TURN_S = 0.15
"""Longest wait for a message, and so for noticing a shutdown or a lost lease."""

ABORT_GRACE_S = 2.0
"""How long aborted branches may take to report back; an engine needs one step."""


class BatchController:
    """Runs one batch; `run` is called once.

    Args:
        answers: What the model's branches look like.
        lease: Kept by the heartbeat.
        stopping: Set when the worker shuts down.
        reserve_s: Time before the deadline kept for voting and committing.
        rows_in_use: Of the engine, by all batches.
    """

    def __init__(
        self,
        batch: ClaimedBatch,
        *,
        engine: Engine,
        answers: AnswerProfile,
        equivalence: Equivalence,
        outbox: Outbox,
        lease: Lease,
        stopping: threading.Event,
        reserve_s: float,
        rows_in_use: Callable[[], int],
    ) -> None:
        self.batch = batch
        self._engine, self._equivalence = engine, equivalence
        self._lost, self._stopping = lease.lost, stopping
        self._rows_in_use = rows_in_use
        self._deadline = Deadline(lease, reserve_s, closing_text=batch.options.closing_text)
        self._inbox = Inbox()
        self._contests = {p.id: Contest.open(p, batch, answers) for p in batch.problems}
        self._open = dict(self._contests)
        self._flights = Flights(engine, self._inbox.events)
        self._outbox = outbox
        self._marker = Marker(
            batch.problems, equivalence=equivalence, outbox=self._outbox, tell=self._inbox.put
        )
        self._ending, self._phase = False, Phase.DECODING
        self._answers, self._pace = answers, Pace()

    @property
    def num_running_branches(self) -> int:
        """Branches that the engine holds for this batch."""
        return len(self._flights)

    def run(self) -> Outcome:
        """Solve the batch; returns when it is done, lost, or released because of a shutdown."""
        try:
            self._begin()
            while self._is_open and not self._lost.is_set() and not self._stopping.is_set():
                if self._deadline.time_left_s <= 0:
                    break
                self._turn()
            return self._end()
        finally:
            self._flights.abort_all()

    @property
    def _is_open(self) -> bool:
        return bool(self._open) or self._marker.is_open

    @property
    def _until_voting_s(self) -> float:
        return self._deadline.time_left_s - self._deadline.reserve_s

    def _begin(self) -> None:
        self._marker.begin()
        for contest in tuple(self._open.values()):
            if contest.is_over(len(contest.missing) + len(contest.spare)):
                self._settle(contest)
        self._equivalence.warm(c.problem.reference_answer for c in self._open.values())
        started = tuple(self._open.values())
        self._submit(planned(started))
        for contest in started:
            self._settle(contest)

    def _submit(self, branches: Sequence[tuple[Contest, int]]) -> None:
        batch = replace(self.batch, deadline_at=self._deadline.at)
        self._flights.start([(c, c.request(batch, branch_index)) for c, branch_index in branches])

    def _turn(self) -> None:
        """Take what is in the inbox, then do what is due."""
        until_s = self._until_voting_s
        self._take(min(TURN_S, until_s if until_s > 0 else 0.02, self._outbox.due_in_s()))
        tpot_s = self._pace.tpot_s
        before, self._phase = self._phase, self._deadline.phase(tpot_s)
        if self._phase >= Phase.VOTING:
            for contest in tuple(self._open.values()):
                contest.close_degraded(datetime.now(UTC))
                self._settle(contest)
            self._marker.give_up()
        elif self._phase is Phase.DECODING and tpot_s is not None:
            self._start_nothing_in_vain(tpot_s)
        if self._phase is not before and self._phase is not Phase.VOTING:
            for contest in self._open.values():
                self._flights.abort(contest.cut())
        self._flights.send_aborts()
        if self._outbox.due_in_s() <= 0:
            self._outbox.flush()

    def _start_nothing_in_vain(self, tpot_s: float) -> None:
        if is_hopeless(self._answers, time_left_s=self._until_voting_s, tpot_s=tpot_s):
            self._flights.abort_waiting()

    def _take(self, wait_s: float) -> None:
        """Handle the messages at hand, after waiting for the first one."""
        for message in self._inbox.take(wait_s):
            self._handle(message)

    def _handle(self, message: Message) -> None:
        if isinstance(message, Compared):
            self._marker.judge(message)
            return
        if isinstance(message, Verdict):
            contest = self._contests[message.problem_id]
            if contest.pending_pair != message.pair:
                return
            contest.judge(message.finding)
        else:
            message = message.at_rows(self._rows_in_use())
            contest, branch_index = self._flights.end(message.branch_id)
            # When the rest is cut off there is no time to go on, and at the end nobody waits.
            can_close = self._phase < Phase.CUTTING and not self._ending
            if can_close and (request := contest.closing(branch_index, message)) is not None:
                self._flights.start([(contest, request)])
                return
            self._pace.observe(message.metrics)
            contest.finish(branch_index, message)
        self._settle(contest)

    def _settle(self, contest: Contest) -> None:
        """Go on with a problem as far as it goes without waiting."""
        while contest.answer is None and (pair := contest.pending_pair) is not None:
            verdict = self._equivalence.known(pair)
            if verdict is None:
                self._ask(contest.problem.id, pair)
                break
            contest.judge(verdict)
        if contest.problem.id in self._open:
            # At the end branches are aborted under open problems, which must not fail by that.
            if contest.answer is None and not self._ending:
                contest.close(datetime.now(UTC), num_following=self._follow(contest))
            if contest.answer is not None:
                del self._open[contest.problem.id]
                self._marker.pass_on(contest.answer)
                self._flights.abort(contest.branch_ids)
        self._outbox.rows += contest.take_rows()

    def _follow(self, contest: Contest) -> int:
        """Start branches in place of those that ended; how many more may follow later."""
        if self._phase is not Phase.DECODING or not self.batch.plan.is_successive:
            return 0
        indexes, num_later = following(
            contest,
            time_left_s=self._until_voting_s,
            tpot_s=self._pace.tpot_s or 0.0,
        )
        self._submit([(contest, index) for index in indexes])
        return num_later

    def _ask(self, problem_id: int, pair: Pair) -> None:
        contest = self._contests[problem_id]
        if contest.asked == pair:
            return
        contest.asked = pair
        self._equivalence.compare(
            pair, lambda finding: self._inbox.put(Verdict(problem_id, pair, finding))
        )

    def _end(self) -> Outcome:
        """Abort the rest, store the last results and close the batch."""
        self._ending = True
        for contest in self._open.values():
            self._flights.abort(contest.branch_ids)
        released = self._stopping.is_set()
        if not self._lost.is_set() and self._outbox.answers:
            # Answers count as in time when they commit in time: before waiting for the aborted.
            self._outbox.flush()
        self._flights.send_aborts()
        give_up_at_s = time.monotonic() + ABORT_GRACE_S
        while self._flights and time.monotonic() < give_up_at_s:
            self._take(0.05)
        released = released and self._is_open
        close = self._outbox.give_back if released else self._outbox.finish
        while not self._lost.is_set():
            if close():
                return Outcome.RELEASED if released else Outcome.DONE
            if self._stopping.is_set() or self._deadline.time_left_s < -self._deadline.reserve_s:
                break
            self._stopping.wait(RETRY_INTERVAL_S)
        self._outbox.write_off()
        return Outcome.LOST

"""The replay engine on a real clock, and on a clock that a test or a simulator drives."""

import math
import threading
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from queue import SimpleQueue

from scheduler.core.latency import LatencyProfile
from scheduler.core.plan import EngineSpec
from scheduler.core.refresh import EngineTotals
from worker.engines.base import BranchFinished, BranchMetrics, BranchRequest, FinishReason
from worker.engines.replay.recordings import Recordings, estimate_prompt_tokens
from worker.engines.replay.timeline import Row, Timeline
from worker.engines.tally import Tally

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Events = SimpleQueue[BranchFinished]


class VirtualReplayEngine:
    """Replays branches on a clock that moves only when `advance_to` is called.

    The seed of a request is not used: which sample a branch replays is fixed by the recordings'
    seed, the problem and the branch index, so every branch is repeatable and no two branches of a
    problem replay one sample before all are used.
    """

    def __init__(
        self, spec: EngineSpec, latency: LatencyProfile, recordings: Recordings, start_at: datetime
    ) -> None:
        self._spec = spec
        self._latency = latency
        self._recordings = recordings
        self._now_s = start_at.timestamp()
        self._queues: dict[str, Events] = {}
        self._tally = Tally()
        self._timeline = Timeline(
            latency,
            max_num_seqs=spec.max_num_seqs,
            kv_capacity_tokens=spec.kv_capacity_tokens,
            tally=self._tally,
        )
        self._timeline.advance(self._now_s)

    @property
    def spec(self) -> EngineSpec:
        """What this engine serves."""
        return self._spec

    def submit(self, requests: Sequence[BranchRequest], events: Events) -> None:
        """Queue branches at the present instant."""
        for request in requests:
            row, error = self._row_of(request)
            if row is None:
                events.put(_rejected(request, error, _instant(self._now_s)))
            else:
                self._queues[request.branch_id] = events
                self._timeline.add(row)
        # Take them in now, so that they start at this instant and not at the next one.
        self.advance_to(_instant(self._now_s))

    def totals(self) -> EngineTotals:
        """What was replayed, in modeled time."""
        return self._tally.totals()

    def abort(self, branch_ids: Iterable[str], *, only_waiting: bool = False) -> None:
        """End branches at the present instant; unknown ids are ignored."""
        for branch_id in branch_ids:
            row = self._timeline.remove(branch_id, only_waiting=only_waiting)
            if row is not None:
                self._emit(row, FinishReason.ABORT)

    def advance_to(self, at: datetime) -> None:
        """Move the clock, which never goes back, and emit the branches that end on the way."""
        self._now_s = max(self._now_s, at.timestamp())
        for row in self._timeline.advance(self._now_s):
            reason = FinishReason.LENGTH if row.answer is None else FinishReason.STOP
            self._emit(row, reason)

    def next_event_at(self) -> datetime | None:
        """When the next branch ends if nothing is submitted; None when none is live."""
        event_s = self._timeline.next_completion_s()
        # A microsecond on, so that the rounding of a datetime never falls short of the event.
        return None if event_s is None else _instant(event_s) + timedelta(microseconds=1)

    def close(self) -> None:
        """Abort what runs. Idempotent."""
        self.abort(self._timeline.branch_ids)

    def _row_of(self, request: BranchRequest) -> tuple[Row | None, str]:
        """The row that replays a request, or None and what to change."""
        if request.branch_id in self._timeline:
            return None, f"branch {request.branch_id} is running already; use another id"
        if request.num_speculative_tokens not in self._spec.draft_lengths:
            served = ", ".join(map(str, self._spec.draft_lengths))
            return None, (
                f"num_speculative_tokens {request.num_speculative_tokens} is not served;"
                f" use one of {served}"
            )
        if request.max_tokens < 1:
            return None, f"max_tokens is {request.max_tokens}; use at least 1"
        prompt_tokens = estimate_prompt_tokens(request.prompt)
        room = self._spec.max_model_len - prompt_tokens
        if room < 1:
            return None, (
                f"the prompt has {prompt_tokens} tokens and the model takes"
                f" {self._spec.max_model_len} with the completion; shorten it"
            )
        if request.partial:
            return None, "a recorded branch cannot go on from another text; leave closing_text out"
        problem = self._recordings.find(request.prompt)
        if problem is None:
            return None, "the recordings have no branch of this prompt; submit a recorded problem"
        sample = self._recordings.sample(problem, request.branch_index)
        cap = min(request.max_tokens, room)
        complete = sample.completion_tokens <= cap
        row = Row(
            request=request,
            prompt_tokens=prompt_tokens,
            total_tokens=min(sample.completion_tokens, cap),
            answer=sample.answer if complete else None,
            queued_at_s=self._now_s,
        )
        return row, ""

    def _emit(self, row: Row, reason: FinishReason) -> None:
        text = f"\\boxed{{{row.answer}}}" if reason is FinishReason.STOP and row.answer else ""
        metrics = self._metrics_of(row)
        self._tally.count_branch(metrics)
        event = BranchFinished(row.request.branch_id, text, reason, metrics)
        self._queues.pop(row.request.branch_id).put(event)

    def _metrics_of(self, row: Row) -> BranchMetrics:
        first_s = row.first_token_at_s
        if first_s is not None and first_s > row.finished_at_s:
            first_s = None
        # The allowance keeps a sum of fractional steps from counting as one step more.
        steps = math.ceil(row.steps - 1e-6)
        length = row.request.num_speculative_tokens if steps else 0
        return BranchMetrics(
            queued_at=_instant(row.queued_at_s),
            started_at=None if row.started_at_s is None else _instant(row.started_at_s),
            first_token_at=None if first_s is None else _instant(first_s),
            finished_at=_instant(row.finished_at_s),
            prompt_tokens=row.prompt_tokens,
            completion_tokens=0 if first_s is None else int(row.tokens + 1e-6),
            num_steps=steps,
            drafted_by_position=(steps,) * length,
            accepted_by_position=self._accepted(steps, length, row.total_tokens),
        )

    def _accepted(self, steps: int, length: int, total_tokens: int) -> tuple[int, ...]:
        """Expected acceptance per position, rounded so that the total is right too.

        P(positions 1 to j are all accepted) is what position j adds to the mean acceptance length.
        """
        means = self._latency.mean_acceptance_length(range(length + 1), total_tokens)
        totals = [math.floor(steps * (float(mean) - 1) + 0.5) for mean in means]
        return tuple(after - before for before, after in pairwise(totals))


class ReplayEngine:
    """Replays branches on the real clock, with one thread that sleeps from event to event."""

    def __init__(self, spec: EngineSpec, latency: LatencyProfile, recordings: Recordings) -> None:
        # Monotonic time on the axis of the epoch: a step of the wall clock moves no branch.
        self._offset_s = time.time() - time.monotonic()
        self._wake = threading.Condition()
        self._virtual = VirtualReplayEngine(spec, latency, recordings, self._now())
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="replay-engine", daemon=True)
        self._thread.start()

    @property
    def spec(self) -> EngineSpec:
        """What this engine serves."""
        return self._virtual.spec

    def submit(self, requests: Sequence[BranchRequest], events: Events) -> None:
        """Queue branches; see `Engine.submit`."""
        with self._wake:
            now = self._now()
            if self._closed:
                for request in requests:
                    events.put(_rejected(request, "the engine is closed", now))
                return
            self._virtual.advance_to(now)
            self._virtual.submit(requests, events)
            self._wake.notify()

    def totals(self) -> EngineTotals:
        """What was replayed up to now, in modeled time."""
        with self._wake:
            self._virtual.advance_to(self._now())
            # Branches may have ended, which moves the next event.
            self._wake.notify()
            return self._virtual.totals()

    def abort(self, branch_ids: Iterable[str], *, only_waiting: bool = False) -> None:
        """End branches at once; unknown ids are ignored."""
        with self._wake:
            self._virtual.advance_to(self._now())
            self._virtual.abort(branch_ids, only_waiting=only_waiting)
            self._wake.notify()

    def close(self) -> None:
        """Abort what runs and stop the thread. Idempotent."""
        with self._wake:
            self._closed = True
            self._virtual.close()
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        with self._wake:
            while not self._closed:
                now = self._now()
                self._virtual.advance_to(now)
                event_at = self._virtual.next_event_at()
                # Never busy: a completion is at least a microsecond away, and sleeping longer
                # than a day would overflow some platforms' waits.
                sleep_s = None if event_at is None else (event_at - now).total_seconds()
                self._wake.wait(None if sleep_s is None else min(max(sleep_s, 1e-4), 3600.0))

    def _now(self) -> datetime:
        return _instant(time.monotonic() + self._offset_s)


def _instant(at_s: float) -> datetime:
    return _EPOCH + timedelta(seconds=at_s)


def _rejected(request: BranchRequest, error: str, now: datetime) -> BranchFinished:
    metrics = BranchMetrics(
        queued_at=now,
        started_at=None,
        first_token_at=None,
        finished_at=now,
        prompt_tokens=0,
        completion_tokens=0,
        num_steps=0,
        drafted_by_position=(),
        accepted_by_position=(),
    )
    return BranchFinished(request.branch_id, "", FinishReason.ERROR, metrics, error)

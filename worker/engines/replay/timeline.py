"""Continuous batching in modeled time: which row is where at which instant.

Theory of operation: live rows advance together. In one step of `T` seconds every row gains the
mean acceptance length of its own draft length in tokens, where `T` is what the latency profile says
for the live rows, their draft lengths (the mean of the times of each, weighted by rows) and their
total context. `T` is affine in context and context grows by a fixed amount per step, so `n` steps
take `n*T0 + n*n*growth/2` seconds and both directions have a closed form: the state moves from
event to event (a completion, the end of a prefill, an arrival), never token by token. A prefill
stalls the whole engine, as an unchunked one does; branches of a prompt that is live share it.
Instants are floats in seconds on any axis; time never goes back.
"""

import heapq
import itertools
import math
from collections import Counter
from dataclasses import dataclass

from scheduler.core.latency import LatencyProfile
from worker.engines.base import BranchRequest
from worker.engines.tally import Tally


@dataclass(slots=True, eq=False)
class Row:
    """One branch, waiting or live.

    Attributes:
        total_tokens: Completion tokens at which it ends.
        answer: What it will say; None when its token cap cuts it off.
        tokens: Completion tokens so far, fractional between steps.
        steps: Decode steps so far, fractional.
    """

    request: BranchRequest
    prompt_tokens: int
    total_tokens: int
    answer: str | None
    queued_at_s: float
    started_at_s: float | None = None
    first_token_at_s: float | None = None
    finished_at_s: float = 0.0
    tokens: float = 0.0
    steps: float = 0.0


@dataclass(frozen=True, slots=True)
class _Pace:
    """Steps from now on: the first takes `step_s`, each later one `growth_s` longer."""

    step_s: float
    growth_s: float

    def duration_s(self, steps: float) -> float:
        return steps * self.step_s + self.growth_s * steps * steps / 2

    def steps_in(self, duration_s: float) -> float:
        if self.growth_s <= 1e-12 * self.step_s:
            return duration_s / self.step_s
        # The root of the quadratic in the form that does not cancel for small growth.
        root = math.sqrt(self.step_s**2 + 2 * self.growth_s * duration_s)
        return 2 * duration_s / (self.step_s + root)


class Timeline:
    """The rows of one engine. Not thread-safe."""

    def __init__(
        self,
        latency: LatencyProfile,
        *,
        max_num_seqs: int,
        kv_capacity_tokens: int,
        tally: Tally | None = None,
    ) -> None:
        self._tally = tally or Tally()
        self._latency = latency
        self._max_num_seqs = max_num_seqs
        self._kv_capacity_tokens = kv_capacity_tokens
        self._now_s = -math.inf
        self._stalled_until_s = -math.inf
        self._arrivals = itertools.count()
        self._waiting: list[tuple[int, int, Row]] = []
        self._rows: dict[str, Row] = {}
        self._live: list[Row] = []
        self._live_prompts: Counter[str] = Counter()
        self._reserved_tokens = 0
        self._pace: _Pace | None = None
        self._gains: dict[tuple[int, int], float] = {}

    def __contains__(self, branch_id: str) -> bool:
        return branch_id in self._rows

    @property
    def branch_ids(self) -> tuple[str, ...]:
        """Branches that have not ended."""
        return tuple(self._rows)

    def add(self, row: Row) -> None:
        """Queue a row at the present instant; `advance` to it first.

        It starts at the next `advance`, or when rows and KV capacity allow, by priority and
        arrival.
        """
        self._rows[row.request.branch_id] = row
        heapq.heappush(self._waiting, (row.request.priority, next(self._arrivals), row))

    def remove(self, branch_id: str, *, only_waiting: bool = False) -> Row | None:
        """Take out a row that has not ended; None when there is none, or none that waits."""
        row = self._rows.get(branch_id)
        if row is None or (only_waiting and row.started_at_s is not None):
            return None
        del self._rows[branch_id]
        row.finished_at_s = self._now_s
        if row.started_at_s is not None:
            self._release(row)
        # A waiting row stays in the heap and is skipped when it comes up.
        return row

    def advance(self, to_s: float) -> list[Row]:
        """Move to `to_s` and return the rows that ended on the way, in order."""
        finished: list[Row] = []
        self._start_rows()
        while (event_s := self.next_completion_s()) is not None and event_s <= to_s:
            # By steps and not by time: an instant's rounding would leave a sliver of a token.
            self._decode(self._steps_to_completion())
            self._now_s = max(self._now_s, event_s)
            ended = [row for row in self._live if row.tokens >= row.total_tokens - 1e-6]
            for row in ended:
                row.tokens = float(row.total_tokens)
                row.finished_at_s = event_s
                del self._rows[row.request.branch_id]
                self._release(row)
            finished += ended
            self._start_rows()
        self._decode_until(to_s)
        return finished

    def _start_rows(self) -> None:
        while self._waiting and len(self._live) < self._max_num_seqs:
            row = self._waiting[0][2]
            if self._rows.get(row.request.branch_id) is not row:
                heapq.heappop(self._waiting)
                continue
            needed = row.prompt_tokens + row.total_tokens
            if self._live and self._reserved_tokens + needed > self._kv_capacity_tokens:
                return
            heapq.heappop(self._waiting)
            self._start(row, needed)

    def _start(self, row: Row, needed_tokens: int) -> None:
        prefill_s = 0.0
        if not self._live_prompts[row.request.prompt]:
            prefill_s = float(self._latency.prefill_time_s(row.prompt_tokens))
            self._tally.count_prefill(row.prompt_tokens)
            self._tally.count_busy(prefill_s)
        self._live_prompts[row.request.prompt] += 1
        self._stalled_until_s = max(self._stalled_until_s, self._now_s) + prefill_s
        row.started_at_s = self._now_s
        row.first_token_at_s = self._stalled_until_s
        # The prefill's logits give the first token.
        row.tokens = 1.0
        self._reserved_tokens += needed_tokens
        self._live.append(row)
        self._pace = None

    def _release(self, row: Row) -> None:
        self._live.remove(row)
        self._live_prompts[row.request.prompt] -= 1
        if not self._live_prompts[row.request.prompt]:
            del self._live_prompts[row.request.prompt]
        self._reserved_tokens -= row.prompt_tokens + row.total_tokens
        self._pace = None

    def _gain(self, row: Row) -> float:
        """Tokens per step, the same over the whole branch."""
        length = row.request.num_speculative_tokens
        # Only where acceptance decays does the mean over a branch depend on its length.
        tokens = row.total_tokens if self._latency.acceptance_decay_per_token else 0
        gain = self._gains.get((length, tokens))
        if gain is None:
            # Asked for every row at every event, and the profile takes microseconds to tell.
            gain = float(self._latency.mean_acceptance_length(length, tokens))
            self._gains[length, tokens] = gain
        return gain

    def _current_pace(self) -> _Pace:
        if self._pace is None:
            lengths = Counter(row.request.num_speculative_tokens for row in self._live)
            context = sum(row.prompt_tokens + row.tokens for row in self._live)
            growth = sum(self._gain(row) for row in self._live)

            def step_s(context_tokens: float) -> float:
                rows = len(self._live)
                times = (
                    count * float(self._latency.step_time_s(rows, length, context_tokens))
                    for length, count in lengths.items()
                )
                return sum(times) / rows

            first_s = step_s(context)
            self._pace = _Pace(first_s, step_s(context + growth) - first_s)
        return self._pace

    def next_completion_s(self) -> float | None:
        """When the next row ends if nothing arrives; None when nothing is live."""
        if not self._live:
            return None
        begin_s = max(self._now_s, self._stalled_until_s)
        return begin_s + self._current_pace().duration_s(self._steps_to_completion())

    def _steps_to_completion(self) -> float:
        return min((row.total_tokens - row.tokens) / self._gain(row) for row in self._live)

    def _decode_until(self, to_s: float) -> None:
        begin_s = max(self._now_s, self._stalled_until_s)
        if self._live and to_s > begin_s:
            self._decode(self._current_pace().steps_in(to_s - begin_s))
        self._now_s = max(self._now_s, to_s)

    def _count(self, steps: float) -> None:
        if self._live and steps > 0:
            gained = steps * sum(self._gain(row) for row in self._live)
            before = sum(row.prompt_tokens + row.tokens for row in self._live)
            self._tally.count_busy(self._current_pace().duration_s(steps))
            self._tally.count_steps(
                steps,
                rows=len(self._live),
                draft_tokens=sum(row.request.num_speculative_tokens for row in self._live),
                context_tokens=before + gained / 2,
            )

    def _decode(self, steps: float) -> None:
        self._count(steps)
        for row in self._live:
            row.tokens = min(row.tokens + steps * self._gain(row), float(row.total_tokens))
            row.steps += steps
        self._pace = None

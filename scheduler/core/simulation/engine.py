"""One engine in virtual time: rows that advance together, a queue, KV capacity and prefills.

Theory of operation: the engine counts *steps*. All live rows take part in every step, and a branch
of L tokens with draft length k ends L / mean_acceptance_length(k, L) steps after its start, however
long the steps take (its tokens are spread over them evenly); so live rows stand in a heap by their
last step, and nothing has to be recomputed when rows come and go. Only the time of a step changes:
with R rows, draft lengths k_r and total context C it is `step_time_s(R, mean k_r, C)`, which
verifies sum(k_r + 1) tokens. C grows by the tokens gained per step and the time is affine in it, so
n steps take n * T + n^2 * growth / 2 seconds, with T the time of the first; both directions have a
closed form.

A prefill stalls the whole engine; branches of a problem that is live already share it. KV cache is
paged, as in vLLM: a branch starts when its prompt fits below the watermark, and when the context of
all rows fills the cache, the least urgent row goes back to the queue, keeps its tokens and prefills
them anew with its prompt when it resumes. Costs: O(log n) per branch that starts, ends or is
aborted, O(rows) per preemption.
"""

import heapq
import math
from collections import Counter
from collections.abc import Hashable

from scheduler.core.simulation.branch import Branch
from scheduler.core.simulation.records import EngineOutcome
from scheduler.core.simulation.step_times import StepTimes
from scheduler.core.simulation.world import SimulatedWorker

_STEP_TOLERANCE = 1e-9
"""Relative; rows whose last steps differ by rounding only end together."""
_KV_WATERMARK = 0.99
"""Share of the KV cache up to which rows are started, as in vLLM."""


class EngineModel:
    """The rows of one worker. Calls must come in order of time."""

    def __init__(self, worker: SimulatedWorker) -> None:
        self.worker = worker
        self._times = StepTimes(worker.latency)
        self._now_s = 0.0
        self._steps = 0.0
        self._stalled_until_s = -math.inf
        self._num_queued = 0
        self._queue: list[tuple[float, int, Branch]] = []
        self._ends: list[tuple[float, int, Branch]] = []
        self._rows = 0
        self._drafted = 0
        self._context = 0.0
        self._gain_sum = 0.0
        self._live_problems: Counter[Hashable] = Counter()
        self._row_seconds = self._busy_s = self._tokens = 0.0
        self._most_rows = 0
        self._most_kv_tokens = 0.0

    @property
    def rows(self) -> int:
        """Branches that decode now."""
        return self._rows

    def tpot_s(self, num_speculative_tokens: int) -> float:
        """Seconds per token of a row with this draft length beside the live ones."""
        return self._step_s() / self._times.gain(num_speculative_tokens, 0)

    def submit(self, branches: list[Branch], now_s: float) -> None:
        """Queue branches by priority, those of equal priority as they come."""
        self._move(now_s)
        for branch in branches:
            branch.queued_s = now_s
            self._num_queued += 1
            heapq.heappush(self._queue, (branch.priority, self._num_queued, branch))
        self._start_rows()

    def abort(self, branches: list[Branch], now_s: float) -> None:
        """End branches at once; those that have ended already stay as they are."""
        self._move(now_s)
        for branch in branches:
            if not branch.has_ended:
                self._end(branch)
        self._start_rows()

    def retime(self, worker: SimulatedWorker, now_s: float) -> None:
        """From now on steps take as long as this worker says, whose drafts must be as good."""
        self._move(now_s)
        self.worker = worker
        self._times = StepTimes(worker.latency)

    def advance(self, now_s: float) -> list[Branch]:
        """Move to an instant of `next_event_s` and take out the branches that end then."""
        step = self._next_step()
        if step is None:
            return []
        self._move(now_s, to_step=step)
        limit = step * (1 + _STEP_TOLERANCE)
        ended = []
        while (end := self._next_end()) is not None and end <= limit:
            branch = heapq.heappop(self._ends)[2]
            self._end(branch)
            ended.append(branch)
        if not ended:
            self._preempt()
        self._start_rows()
        return ended

    def next_event_s(self) -> float | None:
        """When `advance` has something to do if nothing else happens; None when no row is live."""
        step = self._next_step()
        if step is None:
            return None
        steps = max(step - self._steps, 0.0)
        begin_s = max(self._now_s, self._stalled_until_s)
        return begin_s + steps * self._step_s() + steps * steps * self._growth_s() / 2

    def outcome(self) -> EngineOutcome:
        """Totals up to the last call."""
        return EngineOutcome(
            name=self.worker.name,
            row_seconds=self._row_seconds,
            gpu_seconds=self._busy_s * self.worker.num_gpus,
            tokens=self._tokens,
            most_rows=self._most_rows,
            most_kv_tokens=self._most_kv_tokens,
        )

    def _next_end(self) -> float | None:
        while self._ends and not self._is_valid(self._ends[0]):
            heapq.heappop(self._ends)
        return self._ends[0][0] if self._ends else None

    def _next_step(self) -> float | None:
        """Step of the next end, or of the moment when the KV cache is full."""
        end = self._next_end()
        if end is None or self._rows == 1:
            return end
        free = self.worker.spec.kv_capacity_tokens - self._context
        return min(end, self._steps + max(free, 0.0) / self._gain_sum)

    @staticmethod
    def _is_valid(end: tuple[float, int, Branch]) -> bool:
        _, entry, branch = end
        return branch.entry == entry and not branch.has_ended

    def _move(self, now_s: float, to_step: float | None = None) -> None:
        """Let time pass; an end names its step, so that rounding of instants adds up to nothing."""
        if self._rows:
            self._row_seconds += self._rows * (now_s - self._now_s)
            self._busy_s += now_s - self._now_s
            steps = self._steps_until(now_s) if to_step is None else to_step - self._steps
            self._context += steps * self._gain_sum
            self._steps += steps
            self._most_kv_tokens = max(self._most_kv_tokens, self._context)
        self._now_s = now_s

    def _steps_until(self, now_s: float) -> float:
        decoding_s = now_s - max(self._now_s, self._stalled_until_s)
        if decoding_s <= 0.0:
            return 0.0
        step_s, growth_s = self._step_s(), self._growth_s()
        # The root of the quadratic in the form that does not cancel for small growth.
        return 2 * decoding_s / (step_s + math.sqrt(step_s**2 + 2 * growth_s * decoding_s))

    def _step_s(self) -> float:
        return self._times.step_s(max(self._rows, 1), self._drafted, self._context)

    def _growth_s(self) -> float:
        return self._times.context_s * self._gain_sum

    def _gain(self, branch: Branch) -> float:
        return self._times.gain(branch.num_speculative_tokens, branch.tokens)

    def _start_rows(self) -> None:
        spec = self.worker.spec
        while self._queue and self._rows < spec.max_num_seqs:
            branch = self._queue[0][2]
            if not branch.has_ended:
                needed = self._context + branch.prompt_tokens + branch.decoded_tokens
                if self._rows and needed > _KV_WATERMARK * spec.kv_capacity_tokens:
                    return
                self._start(branch)
            heapq.heappop(self._queue)

    def _start(self, branch: Branch) -> None:
        held = branch.prompt_tokens + branch.decoded_tokens
        if branch.decoded_tokens or not self._live_problems[branch.problem]:
            prefill_s = self._times.prefill_s(held)
            self._stalled_until_s = max(self._stalled_until_s, self._now_s) + prefill_s
        self._live_problems[branch.problem] += 1
        if branch.started_s is None:
            branch.started_s = self._now_s
            branch.prefilled_s = max(self._stalled_until_s, self._now_s)
        gain = self._gain(branch)
        branch.start_step = self._steps
        self._rows += 1
        self._drafted += branch.num_speculative_tokens
        self._gain_sum += gain
        self._context += held
        self._most_rows = max(self._most_rows, self._rows)
        self._num_queued += 1
        branch.entry = self._num_queued
        last_step = self._steps + (branch.tokens - branch.decoded_tokens) / gain
        heapq.heappush(self._ends, (last_step, branch.entry, branch))

    def _preempt(self) -> None:
        """Send the least urgent row, of equals the youngest, back to the queue."""
        live = (end for end in self._ends if self._is_valid(end))
        _, entry, branch = max(live, key=lambda end: (end[2].priority, end[1]))
        self._free(branch)
        branch.start_step = None
        branch.entry = 0
        heapq.heappush(self._queue, (branch.priority, entry, branch))

    def _end(self, branch: Branch) -> None:
        branch.has_ended = True
        branch.ended_s, branch.num_rows = self._now_s, self._rows
        if branch.start_step is not None:
            self._free(branch)
        self._tokens += branch.decoded_tokens

    def _free(self, branch: Branch) -> None:
        """Take a branch from its row and count its tokens."""
        if branch.start_step is None:
            return
        gain = self._gain(branch)
        decoded = branch.decoded_tokens + (self._steps - branch.start_step) * gain
        branch.decoded_tokens = min(decoded, float(branch.tokens))
        branch.steps += self._steps - branch.start_step
        held = branch.prompt_tokens + branch.decoded_tokens
        self._rows -= 1
        self._drafted -= branch.num_speculative_tokens
        self._gain_sum = self._gain_sum - gain if self._rows else 0.0
        self._context = self._context - held if self._rows else 0.0
        self._live_problems[branch.problem] -= 1
        if not self._live_problems[branch.problem]:
            del self._live_problems[branch.problem]

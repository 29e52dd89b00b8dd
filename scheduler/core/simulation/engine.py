"""One engine in virtual time: rows that advance together, a queue, KV capacity and prefills.

Theory of operation: the engine counts *steps*. All live rows take part in every step, and a branch
of L tokens with draft length k ends L / mean_acceptance_length(k, L) steps after its start, however
long the steps take (its tokens are spread over them evenly); so live rows stand in a heap by their
last step, and nothing has to be recomputed when rows come and go. Only the time of a step changes:
with R rows, draft lengths k_r and total context C it is `step_time_s(R, mean k_r, C)`, which
verifies sum(k_r + 1) tokens. C grows by the tokens gained per step and the time is affine in it, so
n steps take n * T + n^2 * growth / 2 seconds, with T the time of the first; both directions have a
closed form.

A prefill stalls the whole engine; branches of a problem that is live already share it. A branch
reserves KV cache for its prompt and all its tokens when it starts, and waits while there is too
little. Costs: O(log n) per branch that starts, ends or is aborted.
"""

import heapq
import math
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

from scheduler.core.simulation.records import EngineOutcome
from scheduler.core.simulation.world import SimulatedWorker

_STEP_TOLERANCE = 1e-9
"""Relative; rows whose last steps differ by rounding only end together."""
_CONTEXT_PROBE_TOKENS = 1e6


@dataclass(slots=True, eq=False)
class Branch:
    """One sampled solution, waiting or live.

    Attributes:
        problem: Branches of equal problems share a prefill while one of them is live.
        index: Position among the branches of its problem.
        tokens: Completion tokens at which it ends.
        start_step: Steps that the engine had done when it started; None while it waits.
        decoded_tokens: Completion tokens that it got, known once it has ended.
    """

    problem: Hashable
    index: int
    prompt_tokens: int
    tokens: int
    num_speculative_tokens: int
    priority: float
    start_step: float | None = None
    decoded_tokens: float = 0.0
    has_ended: bool = False


class EngineModel:
    """The rows of one worker. Calls must come in order of time."""

    def __init__(self, worker: SimulatedWorker) -> None:
        self.worker = worker
        self._latency = worker.latency
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
        self._reserved_tokens = 0
        self._live_problems: Counter[Hashable] = Counter()
        self._base_s: dict[tuple[int, int], float] = {}
        self._gains: dict[tuple[int, int], float] = {}
        self._decays = self._latency.acceptance_decay_per_token > 0
        flat, probed = (
            float(self._latency.step_time_s(1, 0, tokens)) for tokens in (0, _CONTEXT_PROBE_TOKENS)
        )
        self._context_s = (probed - flat) / _CONTEXT_PROBE_TOKENS
        self._row_seconds = self._busy_s = self._tokens = 0.0
        self._most_rows = self._most_kv_tokens = 0

    @property
    def rows(self) -> int:
        """Branches that decode now."""
        return self._rows

    def tpot_s(self, num_speculative_tokens: int) -> float:
        """Seconds per token of a row with this draft length beside the live ones."""
        return self._step_s() / float(self._latency.mean_acceptance_length(num_speculative_tokens))

    def submit(self, branches: list[Branch], now_s: float) -> None:
        """Queue branches by priority, those of equal priority as they come."""
        self._move(now_s)
        for branch in branches:
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

    def advance(self, now_s: float) -> list[Branch]:
        """Move to an instant of `next_end_s` and take out the branches that end then."""
        step = self._next_end()
        if step is None:
            return []
        self._move(now_s, to_step=step)
        ended = []
        while self._ends and self._ends[0][0] <= step * (1 + _STEP_TOLERANCE):
            branch = heapq.heappop(self._ends)[2]
            if not branch.has_ended:
                self._end(branch)
                ended.append(branch)
        self._start_rows()
        return ended

    def next_end_s(self) -> float | None:
        """When the next branch ends if nothing else happens; None when no row is live."""
        step = self._next_end()
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
        while self._ends and self._ends[0][2].has_ended:
            heapq.heappop(self._ends)
        return self._ends[0][0] if self._ends else None

    def _move(self, now_s: float, to_step: float | None = None) -> None:
        """Let time pass; an end names its step, so that rounding of instants adds up to nothing."""
        if self._rows:
            self._row_seconds += self._rows * (now_s - self._now_s)
            self._busy_s += now_s - self._now_s
            steps = self._steps_until(now_s) if to_step is None else to_step - self._steps
            self._context += steps * self._gain_sum
            self._steps += steps
        self._now_s = now_s

    def _steps_until(self, now_s: float) -> float:
        decoding_s = now_s - max(self._now_s, self._stalled_until_s)
        if decoding_s <= 0.0:
            return 0.0
        step_s, growth_s = self._step_s(), self._growth_s()
        # The root of the quadratic in the form that does not cancel for small growth.
        return 2 * decoding_s / (step_s + math.sqrt(step_s**2 + 2 * growth_s * decoding_s))

    def _step_s(self) -> float:
        rows = max(self._rows, 1)
        key = (rows, self._drafted)
        base_s = self._base_s.get(key)
        if base_s is None:
            mean_draft = self._drafted / rows
            base_s = float(self._latency.step_time_s(rows, mean_draft, 0.0))
            self._base_s[key] = base_s
        return base_s + self._context_s * self._context

    def _growth_s(self) -> float:
        return self._context_s * self._gain_sum

    def _gain(self, branch: Branch) -> float:
        """Tokens per step."""
        draft = branch.num_speculative_tokens
        # Remembered, because the profile takes microseconds to tell.
        key = (draft, branch.tokens if self._decays else 0)
        if key not in self._gains:
            self._gains[key] = float(self._latency.mean_acceptance_length(*key))
        return self._gains[key]

    def _start_rows(self) -> None:
        spec = self.worker.spec
        while self._queue and self._rows < spec.max_num_seqs:
            branch = self._queue[0][2]
            if not branch.has_ended:
                needed = branch.prompt_tokens + branch.tokens
                if self._rows and self._reserved_tokens + needed > spec.kv_capacity_tokens:
                    return
                self._start(branch, needed)
            heapq.heappop(self._queue)

    def _start(self, branch: Branch, needed_tokens: int) -> None:
        if not self._live_problems[branch.problem]:
            prefill_s = float(self._latency.prefill_time_s(branch.prompt_tokens))
            self._stalled_until_s = max(self._stalled_until_s, self._now_s) + prefill_s
        self._live_problems[branch.problem] += 1
        gain = self._gain(branch)
        branch.start_step = self._steps
        self._rows += 1
        self._drafted += branch.num_speculative_tokens
        self._gain_sum += gain
        self._context += branch.prompt_tokens
        self._reserved_tokens += needed_tokens
        self._most_rows = max(self._most_rows, self._rows)
        self._most_kv_tokens = max(self._most_kv_tokens, self._reserved_tokens)
        self._num_queued += 1
        heapq.heappush(self._ends, (self._steps + branch.tokens / gain, self._num_queued, branch))

    def _end(self, branch: Branch) -> None:
        """Free the row of a branch."""
        branch.has_ended = True
        if branch.start_step is None:
            return
        gain = self._gain(branch)
        decoded = min((self._steps - branch.start_step) * gain, float(branch.tokens))
        self._rows -= 1
        self._drafted -= branch.num_speculative_tokens
        self._gain_sum = self._gain_sum - gain if self._rows else 0.0
        self._context = self._context - branch.prompt_tokens - decoded if self._rows else 0.0
        self._reserved_tokens -= branch.prompt_tokens + branch.tokens
        self._tokens += decoded
        branch.decoded_tokens = decoded
        self._live_problems[branch.problem] -= 1
        if not self._live_problems[branch.problem]:
            del self._live_problems[branch.problem]

"""Counts what vLLM's steps do, from the statistics that each of them brings.

Theory of operation: vLLM calls `record` for every step, in the event loop. It tells how many
requests decoded and with how many tokens, not how long their contexts are; those are followed from
the prompts that join, the tokens that are sampled and the branches that leave.
"""

import statistics
import time
from dataclasses import dataclass
from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase
from vllm.v1.metrics.stats import IterationStats, SchedulerStats

from worker.engines.tally import Tally


@dataclass(frozen=True, slots=True)
class TimedStep:
    """One step, and what was in it.

    Attributes:
        seconds: From the output of the step before, by the clock of vLLM's core; outputs arrive
            here whenever this process has time for them. None where no branch goes on.
        rows: Branches that decoded.
        decoded_tokens: Tokens computed for them, drafts included.
        prefilled_tokens: Tokens computed for prompts.
    """

    seconds: float | None
    rows: int
    decoded_tokens: int
    prefilled_tokens: int


class Recorder(StatLoggerBase):  # type: ignore[misc]
    """Used by the event loop only, apart from `tally`."""

    def __init__(self, *_: Any) -> None:
        self.tally = Tally()
        self.timed: list[TimedStep] | None = None
        self._context_tokens = 0
        self._busy_since_s: float | None = None

    def began(self) -> None:
        """A branch was given to vLLM."""
        if self._busy_since_s is None:
            self._busy_since_s = time.perf_counter()

    def ended(self, num_tokens: int) -> None:
        """A branch that had so many tokens, prompt included, is no longer in vLLM."""
        self._context_tokens = max(0, self._context_tokens - num_tokens)

    def idle(self) -> None:
        """No branch is in vLLM."""
        self._busy_since_s = None
        self._context_tokens = 0

    def record(
        self,
        scheduler_stats: SchedulerStats | None,
        iteration_stats: IterationStats | None,
        *_: Any,
        **__: Any,
    ) -> None:
        """Count one step."""
        step = scheduler_stats.iteration_details if scheduler_stats else None
        if step is not None:
            if step.num_generation_requests:
                self.tally.count_steps(
                    1,
                    rows=step.num_generation_requests,
                    draft_tokens=step.num_generation_tokens - step.num_generation_requests,
                    context_tokens=self._context_tokens,
                )
            if step.num_ctx_tokens:
                self.tally.count_prefill(step.num_ctx_tokens)
            if self.timed is not None and iteration_stats is not None:
                gaps_s = iteration_stats.inter_token_latencies_iter
                self.timed.append(
                    TimedStep(
                        statistics.median(gaps_s) if gaps_s else None,
                        step.num_generation_requests,
                        step.num_generation_tokens,
                        step.num_ctx_tokens,
                    )
                )
        if iteration_stats is not None:
            started = iteration_stats.prompt_token_stats.total
            self._context_tokens += started + iteration_stats.num_generation_tokens
        if self._busy_since_s is not None:
            now_s = time.perf_counter()
            self.tally.count_busy(now_s - self._busy_since_s)
            self._busy_since_s = now_s

    def log_engine_initialized(self) -> None:
        """Nothing to tell."""

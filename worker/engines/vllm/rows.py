"""One branch from submission to its event, and the trace of it that vLLM's output gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue

from vllm.outputs import RequestOutput
from vllm.v1.metrics.stats import RequestSpecDecodeMetrics, RequestStateStats

from worker.engines.base import BranchFinished, BranchMetrics, BranchRequest, FinishReason


@dataclass(slots=True, eq=False)
class Row:
    """One branch.

    Attributes:
        queued_at: When it was submitted, in UTC.
        queued_s: The same instant by vLLM's clock, which is the machine's and so that of its
            processes too. Instants of branches submitted together are as far apart as there.
        internal_id: vLLM's own name of it; None while it is not in vLLM.
    """

    request: BranchRequest
    events: SimpleQueue[BranchFinished]
    queued_at: datetime
    queued_s: float
    prompt_ids: list[int] = field(default_factory=list)
    internal_id: str | None = None
    is_aborted: bool = False
    has_ended: bool = False

    def end_unstarted(self, reason: FinishReason, error: str | None = None) -> None:
        """Sends the event of a branch of which vLLM has nothing to tell."""
        self.has_ended = True
        metrics = BranchMetrics(
            queued_at=self.queued_at,
            started_at=None,
            first_token_at=None,
            finished_at=max(self.queued_at, datetime.now(UTC)),
            prompt_tokens=len(self.prompt_ids),
            completion_tokens=0,
            num_steps=0,
            drafted_by_position=(),
            accepted_by_position=(),
        )
        self.events.put(BranchFinished(self.request.branch_id, "", reason, metrics, error))

    def end(self, output: RequestOutput, text: str, count: Callable[[BranchMetrics], None]) -> None:
        """Counts a branch that ended in vLLM and sends its event."""
        self.has_ended = True
        completion = output.outputs[0]
        metrics = self._metrics(
            len(completion.token_ids), completion.spec_decode_metrics, output.metrics
        )
        reason = FinishReason.ABORT
        if completion.finish_reason in ("stop", "length", "error"):
            reason = FinishReason(completion.finish_reason)
        error = "vLLM failed in this branch; see its log" if reason is FinishReason.ERROR else None
        count(metrics)
        self.events.put(BranchFinished(self.request.branch_id, text, reason, metrics, error))

    def _metrics(
        self,
        completion_tokens: int,
        drafts: RequestSpecDecodeMetrics | None,
        times: RequestStateStats,
    ) -> BranchMetrics:
        num_steps, drafted, accepted = count_drafts(
            completion_tokens,
            self.request.num_speculative_tokens,
            drafts.per_step_drafted if drafts else (),
            drafts.per_step_accepted if drafts else (),
        )
        started_at = self._later(self.queued_at, times.scheduled_ts)
        first_token_at = self._later(started_at, times.first_token_ts if completion_tokens else 0.0)
        begun_at = first_token_at or started_at or self.queued_at
        finished_at = self._later(begun_at, times.last_token_ts)
        return BranchMetrics(
            queued_at=self.queued_at,
            started_at=started_at,
            first_token_at=first_token_at,
            finished_at=finished_at or max(self.queued_at, datetime.now(UTC)),
            prompt_tokens=len(self.prompt_ids),
            completion_tokens=completion_tokens,
            num_steps=num_steps,
            drafted_by_position=drafted,
            accepted_by_position=accepted,
        )

    def _later(self, earlier: datetime | None, monotonic_s: float) -> datetime | None:
        """An instant of vLLM in UTC, not before an earlier one; None where there is none."""
        if earlier is None or not monotonic_s:
            return None
        return max(earlier, self.queued_at + timedelta(seconds=monotonic_s - self.queued_s))


def count_drafts(
    completion_tokens: int,
    num_speculative_tokens: int,
    drafted_by_step: Sequence[int],
    accepted_by_step: Sequence[int],
) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Counts the steps of a branch, and its drafts by position.

    Args:
        drafted_by_step: Of the steps that verified drafts; a step without any gave one token.
        accepted_by_step: Of the same steps. Where the branch ended inside the last draft, what
            was drafted after the end says nothing about acceptance and is not counted.

    Returns:
        Steps, prefill excluded, then drafted and accepted tokens at each position.
    """
    decoded = max(0, completion_tokens - 1)
    yielded = len(accepted_by_step) + sum(accepted_by_step)
    surplus = max(0, yielded - decoded)
    num_steps = len(accepted_by_step) + max(0, decoded - yielded)
    if not num_steps:
        return 0, (), ()
    drafted, accepted = [0] * num_speculative_tokens, [0] * num_speculative_tokens
    last = len(accepted_by_step) - 1
    for step, (num_drafted, num_accepted) in enumerate(
        zip(drafted_by_step, accepted_by_step, strict=True)
    ):
        num_kept = num_accepted + 1 - (surplus if step == last else 0)
        tried = num_drafted if num_kept > num_accepted else max(0, num_kept)
        for position in range(min(tried, num_speculative_tokens)):
            drafted[position] += 1
            accepted[position] += position < num_accepted
    return num_steps, tuple(drafted), tuple(accepted)

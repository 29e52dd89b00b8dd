"""A branch on its way through a server: its text so far, its steps as its chunks tell them."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from queue import SimpleQueue

from worker.engines.base import BranchFinished, BranchMetrics, BranchRequest, FinishReason
from worker.engines.openai.wire import Chunk


class StepCount:
    """Steps and accepted drafts of one branch, as far as its chunks tell.

    Theory of operation: a server streams what a step yields as one chunk, the accepted drafts and
    one token more. Where it tells the tokens of each chunk, a chunk of more than that (several
    steps at once) is taken as the fewest steps that yield it, all but the last of them accepting
    everything. Of the step that ends a branch only the drafts that a later token confirms are
    counted. Where the server tells only the total, it is spread evenly over the chunks.
    """

    def __init__(self, num_speculative_tokens: int) -> None:
        self._draft = num_speculative_tokens
        self._is_told = False
        self._num_chunks = 0
        self.num_tokens = 0
        self.num_steps = 0
        self.drafted: list[int] = []
        self.accepted: list[int] = []

    def count(self, total_tokens: int | None, *, is_last: bool) -> int:
        """Count a chunk of text; returns the steps that made it, 0 for the prefill's token.

        Args:
            total_tokens: Tokens of the completion up to here, where the server tells.
            is_last: Whether the branch ends with this chunk.
        """
        self._num_chunks += 1
        if total_tokens is None:
            self.num_tokens += 1
            return int(self._num_chunks > 1)
        self._is_told = True
        num_new = total_tokens - self.num_tokens - (self.num_tokens == 0)
        self.num_tokens = max(total_tokens, self.num_tokens)
        return self._count_steps(num_new, is_last=is_last) if num_new > 0 else 0

    def settle(self, total_tokens: int | None) -> None:
        """Take the total that the server told at the end, if it told nothing before."""
        if self._is_told:
            return
        if total_tokens is not None:
            self.num_tokens = total_tokens
        num_steps = max(1, self._num_chunks - 1) if self._draft else self.num_tokens - 1
        num_left = self.num_tokens - 1
        for i in range(num_steps, 0, -1):
            if num_left <= 0:
                break
            share = -(-num_left // i)
            self._count_steps(share, is_last=False)
            num_left -= share

    def _count_steps(self, num_new: int, *, is_last: bool) -> int:
        if not self.num_steps:
            self.drafted = [0] * self._draft
            self.accepted = [0] * self._draft
        width = self._draft + 1
        num_steps = -(-num_new // width)
        self.num_steps += num_steps
        num_whole = num_steps - 1
        num_accepted = num_new - num_whole * width - 1
        for position in range(self._draft):
            is_accepted = position < num_accepted
            self.accepted[position] += num_whole + is_accepted
            self.drafted[position] += num_whole + (is_accepted or not is_last)
        return num_steps


@dataclass(slots=True, eq=False)
class Flight:
    """One branch from submission to its event.

    Attributes:
        task: What receives the stream; None while the branch waits.
        started_at: When the request was sent; None again where the server refused it.
        steps: Told by the chunks of the latest attempt.
        finish_reason: As the server named it.
        told_tokens: Completion tokens that the server told last.
        failing_since_s: When an attempt failed, unless the server was heard again; monotonic.
    """

    request: BranchRequest
    events: SimpleQueue[BranchFinished]
    queued_at: datetime
    task: asyncio.Task[tuple[FinishReason, str | None]] | None = None
    started_at: datetime | None = None
    first_token_at: datetime | None = None
    prompt_tokens: int | None = None
    finish_reason: str | None = None
    has_ended: bool = False
    texts: list[str] = field(default_factory=list)
    steps: StepCount = field(default_factory=lambda: StepCount(0))
    told_tokens: int | None = None
    failing_since_s: float | None = None

    def begin(self) -> None:
        """Start an attempt; what an earlier one received is forgotten."""
        self.first_token_at = self.finish_reason = self.told_tokens = None
        self.texts = []
        self.steps = StepCount(self.request.num_speculative_tokens)

    def take(self, chunk: Chunk, now: datetime) -> int:
        """Take a chunk; returns the decode steps that it took."""
        self.failing_since_s = None
        if chunk.prompt_tokens:
            self.prompt_tokens = chunk.prompt_tokens
        self.finish_reason = chunk.finish_reason or self.finish_reason
        self.told_tokens = chunk.completion_tokens or self.told_tokens
        # A chat begins with a chunk that only names the role, and usage comes after the text.
        if not chunk.text and not chunk.finish_reason and not self._has_grown(chunk):
            return 0
        self.texts.append(chunk.text)
        if not chunk.text and chunk.completion_tokens is None:
            return 0
        if self.first_token_at is None:
            self.first_token_at = now
        return self.steps.count(chunk.completion_tokens, is_last=chunk.finish_reason is not None)

    def metrics(self, now: datetime) -> BranchMetrics:
        """The latency trace of a branch that ends now."""
        self.steps.settle(self.told_tokens)
        return BranchMetrics(
            queued_at=self.queued_at,
            started_at=self.started_at,
            first_token_at=self.first_token_at,
            finished_at=now,
            prompt_tokens=self.prompt_tokens or 0,
            completion_tokens=self.steps.num_tokens,
            num_steps=self.steps.num_steps,
            drafted_by_position=tuple(self.steps.drafted),
            accepted_by_position=tuple(self.steps.accepted),
        )

    def send(self, reason: FinishReason, metrics: BranchMetrics, error: str | None) -> None:
        """Send the branch's one event."""
        text = "".join(self.texts)
        self.events.put(BranchFinished(self.request.branch_id, text, reason, metrics, error))

    def _has_grown(self, chunk: Chunk) -> bool:
        return (chunk.completion_tokens or 0) > self.steps.num_tokens

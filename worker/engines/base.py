"""The protocol that every engine speaks: branch requests in, finished branches out.

Theory of operation: an engine decodes up to `spec.max_num_seqs` branches together; further
requests wait inside it, ordered by `(priority, arrival)`. Each submission names the queue on which
its `BranchFinished` events arrive, so batches that share an engine do not see each other's
branches. Every submitted branch yields exactly one event, whatever happens to it: stop, length,
abort or error. Calls are thread-safe and return at once; `abort` takes effect within one step.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from queue import SimpleQueue
from typing import Protocol

from scheduler.core.branch_options import PromptFormat
from scheduler.core.plan import EngineSpec
from scheduler.core.refresh import EngineTotals


class FinishReason(StrEnum):
    """Why a branch ended."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn, and where a branch ends.

    Attributes:
        temperature: 0 is greedy.
        top_p: Share of the probability that the likeliest tokens to draw from reach.
        top_k: Number of likeliest tokens to draw from; None for all.
        seed: Makes a branch repeatable.
        stop: Strings that end a branch; they are not part of its text.
        thinking_token_budget: Tokens that a reasoning model may think for; None for no limit.
    """

    temperature: float = 0.8
    top_p: float = 1.0
    seed: int | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    thinking_token_budget: int | None = None


@dataclass(frozen=True, slots=True)
class BranchRequest:
    """One branch to decode.

    Attributes:
        branch_id: Unique among the branches that the engine holds.
        branch_index: Position among the branches of its problem, from 0.
        priority: Lower goes first; the deadline in milliseconds since the epoch.
        system_prompt: Instruction before the prompt, for chat prompts only.
        turns: (role, content) of the chat that the prompt stands for; None when the prompt is the
            user's one message.
        partial: What the completion begins with: decoding goes on from it. It is no part of the
            event's text.
    """

    branch_id: str
    prompt: str
    branch_index: int
    num_speculative_tokens: int
    max_tokens: int
    sampling: Sampling
    priority: int
    deadline_at: datetime
    prompt_format: PromptFormat = PromptFormat.AUTO
    system_prompt: str | None = None
    partial: str = ""
    turns: tuple[tuple[str, str], ...] | None = None

    @property
    def messages(self) -> list[dict[str, str]]:
        """The chat that asks for it, for models with a chat template."""
        turns = self.turns or (("user", self.prompt),)
        messages = [{"role": role, "content": content} for role, content in turns]
        if self.system_prompt is not None:
            messages.insert(0, {"role": "system", "content": self.system_prompt})
        return messages


@dataclass(frozen=True, slots=True)
class BranchMetrics:
    """Latency trace of one branch. Instants are aware UTC.

    Attributes:
        started_at: When it left the engine's queue; None when it never did.
        first_token_at: When its first completion token was sampled.
        num_steps: Target forward passes that decoded it, prefill excluded.
        drafted_by_position: Draft tokens verified per position, length = longest draft used.
        accepted_by_position: Draft tokens accepted per position, same length.
        num_rows: Rows of the engine in use when it ended, its own included. The worker sets it.
    """

    queued_at: datetime
    started_at: datetime | None
    first_token_at: datetime | None
    finished_at: datetime
    prompt_tokens: int
    completion_tokens: int
    num_steps: int
    drafted_by_position: tuple[int, ...]
    accepted_by_position: tuple[int, ...]
    num_rows: int | None = None


@dataclass(frozen=True, slots=True)
class BranchFinished:
    """The one event of a branch. `error` is set for `FinishReason.ERROR` only."""

    branch_id: str
    text: str
    finish_reason: FinishReason
    metrics: BranchMetrics
    error: str | None = None

    def at_rows(self, num_rows: int) -> "BranchFinished":
        """The same event, with the rows in use when it came."""
        return replace(self, metrics=replace(self.metrics, num_rows=num_rows))


class Engine(Protocol):
    """Decodes branches; see the module's theory of operation."""

    @property
    def spec(self) -> EngineSpec:
        """What this engine serves."""

    def submit(
        self, requests: Sequence[BranchRequest], events: SimpleQueue[BranchFinished]
    ) -> None:
        """Queue branches; their events arrive on `events`.

        A request that can never run (prompt too long, a draft length not in the spec) yields an
        event with `FinishReason.ERROR` and a message that says what to change.
        """

    def totals(self) -> EngineTotals:
        """What this engine did since its start; its latency profile is refreshed from it."""

    def abort(self, branch_ids: Iterable[str], *, only_waiting: bool = False) -> None:
        """End branches within one step; ids that are unknown or finished are ignored.

        Args:
            only_waiting: Spare the branches that have started.
        """

    def close(self) -> None:
        """Abort what runs and release threads and memory. Idempotent."""

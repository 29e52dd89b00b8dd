"""Host-side state of branches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from queue import SimpleQueue

import torch

from worker.engines.base import BranchFinished, BranchMetrics, BranchRequest, FinishReason
from worker.engines.torch.prompts import PromptKv


@dataclass(slots=True, eq=False)
class Row:
    """One branch from submission to its event; running rows have a slot.

    Attributes:
        num_speculative_tokens: Draft length, fixed for the life of the branch.
        prompt: Keys and values of the prompt, from when it is admitted.
        slot: Index in the batch and in the caches; None before it runs.
        shares_prompt: Whether it attends to `prompt` itself, together with other branches.
        has_prompt_copy: Whether its slot holds the prompt too.
    """

    request: BranchRequest
    events: SimpleQueue[BranchFinished]
    queued_at: datetime
    prompt_ids: list[int] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    prompt: PromptKv | None = None
    slot: int | None = None
    shares_prompt: bool = False
    has_prompt_copy: bool = False
    generator: torch.Generator | None = None
    started_at: datetime | None = None
    first_token_at: datetime | None = None
    num_steps: int = 0
    drafted: list[int] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)
    has_ended: bool = False

    @property
    def num_speculative_tokens(self) -> int:
        """Draft length asked for."""
        return self.request.num_speculative_tokens

    @property
    def num_tokens(self) -> int:
        """Prompt and completion tokens so far; the last one is not cached yet."""
        return len(self.prompt_ids) + len(self.token_ids)

    @property
    def cached_tokens(self) -> tuple[int, int]:
        """Where the tokens in its slot begin and end."""
        return 0 if self.has_prompt_copy else len(self.prompt_ids), self.num_tokens

    def last_tokens(self) -> tuple[int, int]:
        """Returns the last two tokens; the draft may not have cached the first of them."""
        before = self.token_ids[-2] if len(self.token_ids) > 1 else self.prompt_ids[-1]
        return before, self.token_ids[-1]

    def extend(
        self, tokens: Sequence[int], eos_token_ids: frozenset[int], max_model_len: int
    ) -> FinishReason | None:
        """Appends sampled tokens up to the end of the branch and says whether it ended."""
        limit = min(self.request.max_tokens, max_model_len - len(self.prompt_ids))
        for token in tokens:
            self.token_ids.append(token)
            if token in eos_token_ids:
                return FinishReason.STOP
            if len(self.token_ids) >= limit:
                return FinishReason.LENGTH
        return None

    def count_step(self, num_accepted: int, num_kept: int) -> None:
        """Counts one target pass.

        Args:
            num_accepted: Draft tokens accepted.
            num_kept: Tokens appended. Where a branch ends inside its draft, what was drafted
                after the end says nothing about acceptance and is not counted.
        """
        if not self.num_steps:
            self.drafted = [0] * self.num_speculative_tokens
            self.accepted = [0] * self.num_speculative_tokens
        self.num_steps += 1
        num_drafted = self.num_speculative_tokens if num_kept > num_accepted else num_kept
        for position in range(num_drafted):
            self.drafted[position] += 1
            self.accepted[position] += position < num_accepted

    def finish(
        self,
        reason: FinishReason,
        now: datetime,
        text: str,
        error: str | None = None,
        count: Callable[[BranchMetrics], None] | None = None,
    ) -> None:
        """Counts the branch, if that is wanted, and sends its one event."""
        self.has_ended = True
        metrics = BranchMetrics(
            queued_at=self.queued_at,
            started_at=self.started_at,
            first_token_at=self.first_token_at,
            finished_at=now,
            prompt_tokens=len(self.prompt_ids),
            completion_tokens=len(self.token_ids),
            num_steps=self.num_steps,
            drafted_by_position=tuple(self.drafted),
            accepted_by_position=tuple(self.accepted),
        )
        if count is not None:
            count(metrics)
        self.events.put(BranchFinished(self.request.branch_id, text, reason, metrics, error))

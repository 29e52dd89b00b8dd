"""Host-side state of branches, and which cache slot each running branch takes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from queue import SimpleQueue

import torch

from worker.engines.base import BranchFinished, BranchMetrics, BranchRequest, FinishReason


@dataclass(slots=True, eq=False)
class Row:
    """One branch from submission to its event; running rows have a slot.

    Attributes:
        num_speculative_tokens: Draft length, fixed for the life of the branch.
        slot: Index in the batch and in the caches; None before it runs.
    """

    request: BranchRequest
    events: SimpleQueue[BranchFinished]
    queued_at: datetime
    prompt_ids: list[int] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    slot: int | None = None
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
        self, reason: FinishReason, now: datetime, text: str, error: str | None = None
    ) -> BranchMetrics:
        """Sends the branch's one event; returns its metrics."""
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
        self.events.put(BranchFinished(self.request.branch_id, text, reason, metrics, error))
        return metrics


def arrange(
    rows: Sequence[Row], context_step_tokens: int | None = None
) -> tuple[list[Row], list[tuple[int, int]]]:
    """Gives rows the slots 0, 1, ... in descending draft length, moving as few as possible.

    In that order the rows that still draft at any position are the first ones, so every draft
    pass works on a leading slice of the cache.

    Args:
        context_step_tokens: Where given, rows of one draft length are in descending order of
            context, counted in steps of this many tokens, so that neighbors attend to about as
            much. Finer steps move rows more often.

    Returns:
        The rows by slot, and the moves (old slot, new slot) of rows that had another slot.
    """
    groups: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        context = row.num_tokens // context_step_tokens if context_step_tokens else 0
        groups.setdefault((row.num_speculative_tokens, context), []).append(row)
    by_slot: list[Row | None] = [None] * len(rows)
    moves = []
    start = 0
    for key in sorted(groups, reverse=True):
        group = groups[key]
        span = range(start, start + len(group))
        start = span.stop
        homeless = []
        for row in group:
            if row.slot is not None and row.slot in span:
                by_slot[row.slot] = row
            else:
                homeless.append(row)
        for slot in span:
            if by_slot[slot] is None:
                row = homeless.pop()
                if row.slot is not None:
                    moves.append((row.slot, slot))
                by_slot[slot], row.slot = row, slot
    return [row for row in by_slot if row is not None], moves

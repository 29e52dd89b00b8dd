"""One sampled solution on a simulated engine, from its queue to its end."""

from collections.abc import Hashable
from dataclasses import dataclass

from scheduler.core.simulation.records import BranchOutcome


@dataclass(slots=True, eq=False)
class Branch:
    """One sampled solution, waiting or live.

    Attributes:
        problem: Branches of equal problems share a prefill while one of them is live.
        index: Position among the branches of its problem.
        tokens: Completion tokens at which it ends.
        start_step: Steps that the engine had done when it started; None while it waits.
        decoded_tokens: Completion tokens before it started, or when it ended.
        entry: Its entry among the ends; older ones are void.
        steps: Steps that it took part in, up to when it last left its row.
        started_s: When it first got a row.
        prefilled_s: When the prefill before its first step was over.
        num_rows: Rows that were busy when it ended.
        has_voted: It ended by itself or by its cap and was counted.
        vote_class: Of the answer it voted for; None without one.
        is_cut: The deadline ended it as its cap would have.
    """

    problem: Hashable
    index: int
    prompt_tokens: int
    tokens: int
    num_speculative_tokens: int
    priority: float
    start_step: float | None = None
    decoded_tokens: float = 0.0
    entry: int = 0
    has_ended: bool = False
    steps: float = 0.0
    queued_s: float = 0.0
    started_s: float | None = None
    prefilled_s: float = 0.0
    ended_s: float = 0.0
    num_rows: int = 0
    has_voted: bool = False
    vote_class: int | None = None
    is_cut: bool = False

    def outcome(self) -> BranchOutcome:
        """What is kept of it."""
        has_token = self.started_s is not None and self.prefilled_s < self.ended_s
        return BranchOutcome(
            index=self.index,
            num_speculative_tokens=self.num_speculative_tokens,
            is_finished=self.has_voted or self.is_cut,
            vote_class=self.vote_class,
            tokens=self.decoded_tokens,
            num_steps=self.steps,
            queued_s=self.queued_s,
            started_s=self.started_s,
            first_token_s=self.prefilled_s if has_token else None,
            finished_s=self.ended_s,
            num_rows=self.num_rows,
        )

"""What branches cost, in row-seconds and tokens, split by what they brought.

Theory of operation: a branch holds a row of its engine from leaving the queue to its end, and its
engine computes its completion tokens and the draft tokens that are rejected. Each branch has one
fate, and the whole of it goes there, but for a branch that counts: of that one, rejected drafts
take the share `rejected / (completed + rejected)` of its tokens, and the same share of its time.
So every row-second and every token is in one part, named after the first reason why it brought
nothing, and parts of several jobs add up to the parts of all of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

Amount = TypeVar("Amount", int, float)


class Fate(StrEnum):
    """What became of a branch.

    It counted in a vote; it was aborted, because the vote was decided, the job cancelled or its
    time over; or it was lost, with its batch or by an error of its engine.
    """

    COUNTED = "counted"
    CANCELLED = "cancelled"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Spent:
    """Sums over branches of one fate.

    Attributes:
        num_branches: Problems' branches; a try that ran again counts with the next.
        row_s: Row-seconds held.
        rejected_row_s: The part of them that falls to rejected drafts.
        tokens: Completion tokens and rejected draft tokens.
        rejected_tokens: Of these, the rejected.
        prompt_tokens: Tokens of the branches' prompts, which a prefix cache may have spared.
    """

    fate: Fate
    num_branches: int = 0
    row_s: float = 0.0
    rejected_row_s: float = 0.0
    tokens: int = 0
    rejected_tokens: int = 0
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Parts(Generic[Amount]):
    """What a whole went into, in row-seconds or tokens."""

    useful: Amount
    cancelled: Amount
    rejected_drafts: Amount
    retried: Amount

    @property
    def total(self) -> Amount:
        """All of it."""
        return self.useful + self.cancelled + self.rejected_drafts + self.retried


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a job, or of several."""

    num_branches: int
    prompt_tokens: int
    row_s: Parts[float]
    tokens: Parts[int]


def cost_of(spent: Iterable[Spent]) -> Cost:
    """Split what was spent into its parts."""
    all_spent = tuple(spent)
    counted, cancelled, lost = (
        [each for each in all_spent if each.fate is fate]
        for fate in (Fate.COUNTED, Fate.CANCELLED, Fate.LOST)
    )
    return Cost(
        num_branches=sum(each.num_branches for each in all_spent),
        prompt_tokens=sum(each.prompt_tokens for each in all_spent),
        row_s=Parts(
            useful=sum(each.row_s - each.rejected_row_s for each in counted),
            cancelled=sum(each.row_s for each in cancelled),
            rejected_drafts=sum(each.rejected_row_s for each in counted),
            retried=sum(each.row_s for each in lost),
        ),
        tokens=Parts(
            useful=sum(each.tokens - each.rejected_tokens for each in counted),
            cancelled=sum(each.tokens for each in cancelled),
            rejected_drafts=sum(each.rejected_tokens for each in counted),
            retried=sum(each.tokens for each in lost),
        ),
    )

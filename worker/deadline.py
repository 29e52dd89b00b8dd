"""How much time a batch has left, and what it is time for."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from scheduler.core.stopping import CUT_SHARE
from worker.requests import closing_time_s


class Phase(IntEnum):
    """What it is time for; a batch goes through them in this order and may skip some."""

    DECODING = 0
    CLOSING = 1
    """Branches that still run are made to say their answers, where the job asks for that."""
    VOTING = 2
    """Every problem with a vote is answered."""
    CUTTING = 3
    """What has no vote yet is cut off."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The deadline of a batch.

    Attributes:
        reserve_s: Time before it kept for voting and committing.
        total_s: What the batch had for decoding when it began.
        is_closing: Whether its job has a closing text.
    """

    at: datetime
    reserve_s: float
    total_s: float
    is_closing: bool

    @classmethod
    def of(cls, at: datetime, reserve_s: float, *, is_closing: bool) -> "Deadline":
        """The deadline of a batch that begins now."""
        left_s = (at - datetime.now(UTC)).total_seconds()
        return cls(at, reserve_s, max(left_s - reserve_s, 0.0), is_closing)

    @property
    def time_left_s(self) -> float:
        """Negative when it has passed."""
        return (self.at - datetime.now(UTC)).total_seconds()

    def phase(self, tpot_s: float | None) -> Phase:
        """What it is time for.

        Args:
            tpot_s: Seconds per token of the batch's branches, once known.
        """
        left_s = self.time_left_s
        if left_s <= CUT_SHARE * self.reserve_s:
            return Phase.CUTTING
        if left_s <= self.reserve_s:
            return Phase.VOTING
        if self.is_closing and left_s - self.reserve_s <= closing_time_s(tpot_s, self.total_s):
            return Phase.CLOSING
        return Phase.DECODING

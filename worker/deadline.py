"""How much time a batch has left, and what it is time for."""

from datetime import UTC, datetime
from enum import IntEnum

from scheduler.core.stopping import CUT_SHARE
from worker.lease import Lease
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


class Deadline:
    """The deadline of a batch, as its lease has it: a client may change it.

    Args:
        reserve_s: Time before it kept for voting and committing.
        closing_text: What its branches are made to say their answers with; None to cut them off.
        began_at: When the batch began, by default now.
    """

    def __init__(
        self,
        lease: Lease,
        reserve_s: float,
        *,
        closing_text: str | None,
        began_at: datetime | None = None,
    ) -> None:
        self.reserve_s = reserve_s
        self._lease = lease
        self._is_closing = closing_text is not None
        self._began_at = began_at or datetime.now(UTC)
        self._reached = Phase.DECODING, lease.deadline_at

    @property
    def at(self) -> datetime:
        """The instant."""
        return self._lease.deadline_at

    @property
    def time_left_s(self) -> float:
        """Negative when it has passed."""
        return (self.at - datetime.now(UTC)).total_seconds()

    def phase(self, tpot_s: float | None) -> Phase:
        """What it is time for; never an earlier phase again, unless the deadline became later.

        Args:
            tpot_s: Seconds per token of the batch's branches, once known.
        """
        reached, at = self._reached
        due = self._phase(tpot_s)
        self._reached = (due if self.at > at else max(reached, due)), self.at
        return self._reached[0]

    def _phase(self, tpot_s: float | None) -> Phase:
        left_s = self.time_left_s
        if left_s <= CUT_SHARE * self.reserve_s:
            return Phase.CUTTING
        if left_s <= self.reserve_s:
            return Phase.VOTING
        total_s = max((self.at - self._began_at).total_seconds() - self.reserve_s, 0.0)
        if self._is_closing and left_s - self.reserve_s <= closing_time_s(tpot_s, total_s):
            return Phase.CLOSING
        return Phase.DECODING

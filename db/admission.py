"""One admission at a time, so that two jobs are not promised the same capacity."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

_LOCK_KEY = 0x534C4B41
"""Advisory lock of admissions; any constant that no other lock of Slackline uses."""


def hold_admission(session: Session) -> None:
    """Wait for the submissions before this one; held until the transaction ends."""
    session.execute(select(func.pg_advisory_xact_lock(_LOCK_KEY)))

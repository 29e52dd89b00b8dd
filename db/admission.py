"""Requests that take turns: admissions, so that no capacity is promised twice, and equal ones."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

_LOCK_KEY = 0x534C4B41
"""Advisory lock of admissions; any constant that no other lock of Slackline uses."""


def hold_admission(session: Session) -> None:
    """Wait for the submissions before this one; held until the transaction ends."""
    session.execute(select(func.pg_advisory_xact_lock(_LOCK_KEY)))


def hold_request(session: Session, request_sha256: str) -> None:
    """Wait for equal requests before this one; held until the transaction ends."""
    number = func.hashtextextended(request_sha256, 0)
    session.execute(select(func.pg_advisory_xact_lock(number)))

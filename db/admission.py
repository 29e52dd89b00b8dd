"""Requests that take turns: admissions, so that no capacity is promised twice, and equal ones."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

_LOCK_KEY = 0x534C4B41
"""Advisory lock of admissions; any constant that no other lock of Slackline uses."""

_THOUGHT_S = 30.0
"""Bounds how long a process that is frozen, but not gone, keeps admissions of others waiting."""


def hold_admission(session: Session) -> None:
    """Wait for the submissions before this one; held until the transaction ends."""
    session.execute(select(func.pg_advisory_xact_lock(_LOCK_KEY)))


def think_longer(session: Session) -> None:
    """Let a transaction that holds the admission, and at most one row, think for longer.

    The row is the batch that it takes in.

    It weighs all live jobs, which on a busy machine may take longer than `IDLE_LIMIT_S`.
    """
    limit = f"{_THOUGHT_S * 1000:.0f}"
    session.execute(select(func.set_config("idle_in_transaction_session_timeout", limit, True)))


def hold_request(session: Session, request_sha256: str) -> None:
    """Wait for equal requests before this one; held until the transaction ends."""
    number = func.hashtextextended(request_sha256, 0)
    session.execute(select(func.pg_advisory_xact_lock(number)))

"""Finds what an earlier request made, so that a retry makes no second one."""

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from api.errors import ApiError
from api.settings import ApiSettings
from db import jobs, keys
from db.models import OpenaiBatch
from db.openai_batches import NewOpenaiBatch, find_equal_batch

BY_KEY = "true"
BY_CONTENT = "content"
"""Values of the header `Idempotent-Replayed`."""


def replayed_by_key(
    session: Session, *, tenant_id: str, key: str | None, sha256: str
) -> str | None:
    """Id of the job that was made with this `Idempotency-Key`; None when the key is free.

    Raises:
        ApiError: 409, another request used the key.
    """
    used = None
    if key is not None:
        used = keys.find_idempotency_key(session, tenant_id=tenant_id, key=key)
    if used is None:
        return None
    if used.request_sha256 != sha256:
        raise ApiError(
            409,
            "idempotency_key_reused",
            f"This Idempotency-Key belongs to another request, which made {used.job_id}."
            " Use a new key for a new request.",
            param="Idempotency-Key",
        )
    return used.job_id


def replayed_by_content(
    session: Session, *, tenant_id: str, sha256: str, now: datetime, settings: ApiSettings
) -> str | None:
    """Id of a job of the same content that was submitted a moment ago and still counts."""
    since = now - timedelta(seconds=settings.dedup_window_s)
    return jobs.find_equal(session, tenant_id, sha256, since=since)


def replayed_batch(
    session: Session, batch: NewOpenaiBatch, settings: ApiSettings
) -> OpenaiBatch | None:
    """The batch that the same request made a moment ago, if it still counts."""
    since = batch.created_at - timedelta(seconds=settings.dedup_window_s)
    return find_equal_batch(session, batch.tenant_id, batch.request_sha256, since=since)

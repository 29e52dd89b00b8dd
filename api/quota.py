"""Holds a tenant to the tokens that it may have queued, while its next job is stored."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from api.errors import ApiError, retry_after
from api.settings import ApiSettings
from db.quotas import max_queued_tokens, queued_jobs


@dataclass(frozen=True, slots=True)
class Excess:
    """How far a job is beyond the quota.

    Attributes:
        queued: Tokens that open problems count for already.
        wanted: Tokens that the job would add.
        limit: How many both may be together.
        wait_s: Seconds until enough should be given back; None if the job alone is too much.
    """

    queued: float
    wanted: float
    limit: int
    wait_s: float | None

    def error(self) -> ApiError:
        """A 429 that says when to come back, or to send less."""
        message = (
            f"This counts for {self.wanted:,.0f} tokens (prompts, and the completions of all"
            f" branches that are expected), {self.queued:,.0f} are queued, and the limit is"
            f" {self.limit:,}."
        )
        if self.wait_s is None:
            advice = "It is more than the limit by itself: submit fewer problems at a time."
            headers = {"x-should-retry": "false"}
        else:
            advice = f"Retry in {self.wait_s:,.0f} seconds, when enough should have ended."
            headers = {"Retry-After": retry_after(self.wait_s)}
        return ApiError(
            429,
            "token_limit_exceeded",
            f"{message} {advice}",
            kind="rate_limit_error",
            headers=headers,
            extra={
                "queued_tokens": round(self.queued),
                "wanted_tokens": round(self.wanted),
                "limit_tokens": self.limit,
                "retry_after_s": self.wait_s,
            },
        )


def excess(
    session: Session,
    tenant_id: str,
    wanted: float,
    settings: ApiSettings,
    *,
    job_ids: Collection[str],
    now: datetime,
) -> Excess | None:
    """None when a tenant may queue so many tokens more.

    Args:
        session: Holds the admission, so that no other job comes in between; see `hold_admission`.
        wanted: What these jobs count for, the new ones.
    """
    limit = max_queued_tokens(session, tenant_id)
    if limit is None:
        limit = settings.max_queued_tokens
    if limit is None:
        return None
    jobs = queued_jobs(session, tenant_id, without=job_ids)
    queued = sum(job.tokens for job in jobs)
    if queued + wanted <= limit:
        return None
    if wanted > limit:
        return Excess(queued, wanted, limit, None)
    left = queued
    for job in jobs:
        left -= job.tokens
        if left + wanted <= limit:
            break
    return Excess(queued, wanted, limit, max((job.ends_at - now).total_seconds(), 1.0))


def check_quota(
    session: Session,
    tenant_id: str,
    wanted: float,
    settings: ApiSettings,
    *,
    job_ids: Collection[str],
    now: datetime,
) -> None:
    """Refuse what is beyond a tenant's quota.

    Raises:
        ApiError: 429.
    """
    beyond = excess(session, tenant_id, wanted, settings, job_ids=job_ids, now=now)
    if beyond is not None:
        raise beyond.error()

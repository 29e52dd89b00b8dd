"""Submissions that were refused."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from scheduler.core.decisions import RejectReason, Verdict


class RefusalOut(BaseModel):
    """One submission that admission refused; it made no job."""

    object: Literal["refusal"] = "refusal"
    verdict: Literal[Verdict.REFUSED] = Verdict.REFUSED
    at: datetime
    reason: RejectReason
    model: str
    num_problems: int
    mean_prompt_tokens: float
    max_branches: int
    deadline_at: datetime
    earliest_finish_at: datetime | None = Field(
        description="The nearest deadline that could be met then; null when nobody served the"
        " model."
    )


class RefusalPage(BaseModel):
    """Refusals, newest first."""

    object: Literal["list"] = "list"
    data: list[RefusalOut]
    has_more: bool
    next_after: str | None = Field(description="Pass as `after` for the next page.")

"""Events as clients see them."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field


class EventOut(BaseModel):
    """One transition or decision in a job's life, or how far it is."""

    id: int | None = Field(
        description="Grows with time over all jobs: pass it as `after` or `Last-Event-ID` to go on"
        " behind it. Null for `job.progress`, which is streamed and not stored."
    )
    job_id: str
    at: datetime
    kind: str
    data: dict[str, Any]


class EventPage(BaseModel):
    """Events, oldest first."""

    object: Literal["list"] = "list"
    data: list[EventOut]
    has_more: bool
    next_after: str | None = Field(description="Pass as `after` for the next page.")

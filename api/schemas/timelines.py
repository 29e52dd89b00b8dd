"""The timeline of a job, and one problem with its votes."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from api.schemas.results import ResultOut


class WorkerTimelineOut(BaseModel):
    """What one worker did for the job: mean number of branches in each bin, by phase."""

    name: str
    waiting: list[float] = Field(description="In the engine's queue, without a row.")
    prefill: list[float] = Field(description="In a row, before the first token.")
    decode: list[float] = Field(description="In a row, from the first token on.")


class SpanOut(BaseModel):
    """One finished branch between its moments."""

    problem_id: str
    position: int = Field(description="Of the problem within the job, from 0.")
    branch_index: int
    worker: str
    num_speculative_tokens: int
    finish_reason: str
    answer: str | None
    is_correct: bool | None
    queued_at: datetime
    started_at: datetime | None
    first_token_at: datetime | None
    finished_at: datetime
    completion_tokens: int


class TimelineOut(BaseModel):
    """The finished branches of a job over a stretch of time."""

    object: Literal["timeline"] = "timeline"
    job_id: str
    start_at: datetime
    end_at: datetime
    bin_s: float = Field(description="Seconds that a bin is wide.")
    num_branches: int = Field(description="Finished branches that touch the stretch.")
    workers: list[WorkerTimelineOut]
    branches: list[SpanOut] | None = Field(
        description="In the order of their start; null when the stretch has more than `limit`."
    )


class VoteOut(BaseModel):
    """Branches whose answers are equivalent."""

    answer: str
    num_votes: int
    share: float = Field(description="Of the finished branches, those without an answer included.")
    is_correct: bool | None
    wins: bool = Field(description="Most votes; of equally many, the one that was first.")


class ProblemOut(ResultOut):
    """One problem with everything that is known of it."""

    object: Literal["problem"] = "problem"
    job_id: str
    prompt: str
    reference_answer: str | None
    predicted_accuracy: float | None
    votes: list[VoteOut] = Field(description="Most votes first.")

"""Answers with their vote and, on request, the latency trace of each branch."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from api.schemas.grading import SubmissionOut
from scheduler.core.grading import Grade
from scheduler.core.states import ProblemState


class BranchOut(BaseModel):
    """One sampled solution and its latency trace; durations in seconds."""

    branch_index: int
    worker: str
    num_speculative_tokens: int
    finish_reason: str
    answer: str | None
    is_correct: bool | None
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime
    queue_time_s: float
    ttft_s: float | None
    decode_time_s: float | None
    tpot_s: float | None
    prompt_tokens: int
    completion_tokens: int
    num_steps: int
    drafted_by_position: list[int]
    accepted_by_position: list[int]
    text: str
    error: str | None


class ResultOut(BaseModel):
    """One problem's answer, or where it stands."""

    id: str
    position: int = Field(description="Within the job, from 0.")
    state: ProblemState
    answer: str | None = Field(description="Null on an answered problem that found no answer.")
    vote_share: float | None = Field(description="Votes of the answer over finished branches.")
    is_correct: bool | None
    grade: Grade | None = Field(description="Null without anything to grade by.")
    grade_reason: str | None = Field(description="Why, in a short sentence.")
    degraded: bool = Field(description="The deadline, not the plan, ended the sampling.")
    num_branches_finished: int
    num_branches_planned: int | None = Field(
        description="At most, those included that follow while the vote is open."
    )
    error: str | None
    deadline_at: datetime | None = Field(
        description="Of its own, as it was submitted; null where it is due with the job."
    )
    finished_at: datetime | None
    branches: list[BranchOut] | None = Field(
        None, description="With `branches=true`; null otherwise."
    )
    submissions: list[SubmissionOut] | None = Field(
        None, description="Answers of others with their grades, with `submissions=true`."
    )


class ResultPage(BaseModel):
    """Results in the order of submission."""

    object: Literal["list"] = "list"
    data: list[ResultOut]
    has_more: bool
    next_after: str | None = Field(description="Pass as `after` for the next page.")

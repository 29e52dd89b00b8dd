"""A job as clients see it."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from api.schemas.forecasts import ForecastBasisOut
from scheduler.core.branch_options import AnswerFormat, PromptFormat
from scheduler.core.decisions import RiskReason, Verdict
from scheduler.core.states import JobState


class ProgressOut(BaseModel):
    """Problems by state; the sum is the size of the job."""

    pending: int = 0
    dispatched: int = 0
    running: int = 0
    answered: int = 0
    expired: int = 0
    failed: int = 0
    cancelled: int = 0


class PlanOut(BaseModel):
    """The split in force for the problems that are still pending."""

    num_branches: int
    num_speculative_tokens: int
    max_tokens: int
    max_branches: int = Field(
        0,
        description="Branches of a problem in all, where others follow the first ones while its"
        " vote is open; 0 where all start at once.",
    )
    wave_size: int


class ForecastOut(BaseModel):
    """When the job will end (median, 95th percentile) and how many answers will be right."""

    finish_at: datetime
    finish_p95_at: datetime
    accuracy: float


class AtRiskOut(BaseModel):
    """Why a promised deadline may be missed."""

    reason: RiskReason = Field(
        description="`too_late`: even the quickest plan would end after the deadline with 5%;"
        " `no_worker`: nobody serves the model; `overdue`: its last problems are with workers and"
        " take longer than predicted (95%)."
    )
    since: datetime
    finish_p95_at: datetime | None = Field(
        description="When it would end with 95% if the deadline cut nothing; null if not known."
    )


class PartOut(BaseModel):
    """Problems of a job with the same deadline of their own; planned like a job."""

    deadline_at: datetime
    num_problems: int
    plan: PlanOut | None
    predicted: ForecastOut | None
    admitted: ForecastOut
    at_risk: AtRiskOut | None = Field(description="As for the job.")
    met_deadline: bool | None = Field(
        description="Whether each of them ended by then, and not all of them failed; null while the"
        " job is live or cancelled."
    )


class JobOut(BaseModel):
    """One submission with its deadline, progress, plan and forecasts."""

    id: str
    object: Literal["job"] = "job"
    name: str
    model: str
    family: str = Field(description="Kind of problems: lengths and accuracy are learned by it.")
    state: JobState
    created_at: datetime
    deadline_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    verdict: Verdict = Field(
        description="`accepted`, or `accepted_degraded`: below `min_accuracy`, or a best effort."
    )
    promised: bool = Field(
        description="Whether the deadline was promised; false for a best effort, whose problems"
        " the deadline may cut off."
    )
    met_deadline: bool | None = Field(
        description="Completed by the deadline, and what has one of its own by that: no problem"
        " expired, and not all of them failed. Null while live or cancelled."
    )
    retry_of: str | None = Field(
        description="The job whose problems without an answer these are; null for most."
    )
    num_problems: int
    progress: ProgressOut
    degraded: int = Field(description="Answered problems that the deadline cut short.")
    max_branches: int
    max_tokens: int | None
    min_accuracy: float | None
    temperature: float
    top_p: float
    top_k: int | None
    seed: int | None
    stop: list[str]
    thinking_token_budget: int | None
    prompt_format: PromptFormat
    system_prompt: str | None
    answer_format: AnswerFormat
    closing_text: str | None
    grading: dict[str, Any] = Field(description="How answers are graded.")
    solve: bool = Field(description="False for a job that only grades submissions.")
    weight: float
    plan: PlanOut | None
    parts: list[PartOut] = Field(
        description="Problems with deadlines of their own, nearest first; `plan` is that of the"
        " others."
    )
    predicted: ForecastOut | None = Field(description="The latest forecast, of all problems.")
    admitted: ForecastOut = Field(description="The forecast on which the job was accepted.")
    forecast_basis: ForecastBasisOut | None = Field(
        description="What that forecast rested on; null for a job of an older release."
    )
    accuracy: float | None = Field(
        description="Fraction right of the problems graded so far; null without references."
    )
    at_risk: AtRiskOut | None = Field(
        description="Null while the deadline is not at risk, and once finished."
    )
    slack_s: float | None = Field(
        description="Time left less predicted remaining run time; null once finished."
    )
    time_left_s: float | None = Field(description="Until the deadline; null once finished.")
    mean_acceptance_length: float | None = Field(
        description="Tokens per forward pass of the target, over the latest branches."
    )
    error: str | None


class JobPage(BaseModel):
    """Jobs, newest first."""

    object: Literal["list"] = "list"
    data: list[JobOut]
    has_more: bool
    next_after: str | None = Field(description="Pass as `after` for the next page.")

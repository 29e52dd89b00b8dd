"""Why a plan won."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from api.schemas.forecasts import ForecastBasisOut
from api.schemas.jobs import PlanOut
from scheduler.core.explanation import Fate
from scheduler.core.states import JobState


class SecondsOut(BaseModel):
    """A forecast in seconds from the moment of the decision."""

    finish_p50_s: float
    finish_p95_s: float
    accuracy: float
    row_seconds: float = Field(
        description="Expected cost if no deadline cuts it: seconds times rows."
    )


class CandidateOut(SecondsOut):
    """A plan that was weighed, with its forecast behind the work ahead and what may come first."""

    num_branches: int
    num_speculative_tokens: int
    max_tokens: int
    max_branches: int = Field(
        0,
        description="Branches of a problem in all, where others follow the first ones while its"
        " vote is open; 0 where all start at once.",
    )
    needed_s: float = Field(description="Seconds that must be left for it to be chosen.")
    fate: Fate
    why: str = Field("", description="The fate in words.")


class DecisionOut(BaseModel):
    """What one decision saw, which plans it weighed and why one of them won."""

    why: str = Field("", description="Why the plan won, in words.")
    basis: ForecastBasisOut
    num_workers: int
    rows: int = Field(description="Branches that decode at once over all workers.")
    draft_lengths: list[int]
    num_problems: int = Field(description="Problems that the plan is for.")
    mean_prompt_tokens: float
    num_jobs_ahead: int = Field(description="Jobs with open work that get rows first.")
    ahead_s: float = Field(description="Expected seconds for which other work holds the rows.")
    ahead_p95_s: float
    time_left_s: float
    reserve_s: float = Field(description="Seconds of the time left that no plan may use.")
    num_candidates: int
    num_in_time: int = Field(
        description="Candidates for which the time left suffices, without those `too_wide`."
    )
    is_in_time: bool = Field(description="False for a fallback: the deadline is at risk.")
    plan: PlanOut
    forecast: SecondsOut
    candidates: list[CandidateOut] = Field(
        description="An extract by the time needed: the frontier of time against accuracy, the"
        " plan in force, and the best plans with one branch and without a draft."
    )


class HistoryOut(BaseModel):
    """One transition or decision, in words and as stored."""

    at: datetime
    kind: str
    what: str
    data: dict[str, Any]


class StopsOut(BaseModel):
    """Problems whose vote ended before all planned branches did."""

    num_answered: int
    num_stopped: int = Field(description="Of those answered, without the deadline's help.")
    num_branches_spared: int


class OutcomeOut(BaseModel):
    """The forecast of the admission beside what came."""

    finished_at: datetime
    admitted_finish_at: datetime
    admitted_finish_p95_at: datetime
    within_p95: bool = Field(description="Finished by the P95 finish of the admission.")
    accuracy: float | None = Field(description="Null without reference answers.")
    admitted_accuracy: float


class ExplanationOut(BaseModel):
    """Why a job is run as it is."""

    object: Literal["explanation"] = "explanation"
    job_id: str
    state: JobState
    verdict: str
    admission: DecisionOut | None = Field(
        description="The decision at submission, or at the last change of the deadline; null for a"
        " job of another release."
    )
    now: DecisionOut | None = Field(
        description="The plan in force as the next tick sees it; null without pending problems."
    )
    history: list[HistoryOut] = Field(
        description="Oldest first, batches only when lost; all events are at `/events`."
    )
    history_has_more: bool
    stops: StopsOut
    outcome: OutcomeOut | None = Field(description="Null while live.")

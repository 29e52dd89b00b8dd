"""Quotes and explanations."""

from typing import Any, TypedDict

from api.client.shapes.jobs import ForecastBasis, Plan


class QuotedDeadline(TypedDict):
    """What one deadline buys; plan and forecast are None when it cannot be met."""

    deadline_at: str
    deadline_s: float
    feasible: bool
    verdict: str
    submit_deadline_s: float | None
    num_branches: int | None
    max_branches: int | None
    num_speculative_tokens: int | None
    max_tokens: int | None
    finish_p50_s: float | None
    finish_p95_s: float | None
    accuracy: float | None
    row_seconds: float | None


class Quote(TypedDict):
    """The frontier of a problem set; seconds count from `quoted_at`."""

    object: str
    model: str
    quoted_at: str
    num_problems: int
    mean_prompt_tokens: float
    earliest_finish_at: str
    earliest_finish_s: float
    min_accuracy: float | None
    shortest_deadline_s: float | None
    forecast_basis: ForecastBasis
    deadlines: list[QuotedDeadline]


class Seconds(TypedDict):
    """A forecast in seconds from the moment of its decision."""

    finish_p50_s: float
    finish_p95_s: float
    accuracy: float
    row_seconds: float


class Candidate(Seconds):
    """A plan that was weighed."""

    num_branches: int
    num_speculative_tokens: int
    max_tokens: int
    max_branches: int
    needed_s: float
    fate: str
    why: str


class Decision(TypedDict):
    """What one decision saw, which plans it weighed and why one of them won."""

    why: str
    basis: ForecastBasis
    num_workers: int
    rows: int
    draft_lengths: list[int]
    num_problems: int
    mean_prompt_tokens: float
    num_jobs_ahead: int
    ahead_s: float
    ahead_p95_s: float
    time_left_s: float
    reserve_s: float
    num_candidates: int
    num_in_time: int
    is_in_time: bool
    plan: Plan
    forecast: Seconds
    candidates: list[Candidate]


class HistoryEntry(TypedDict):
    """One transition or decision, in words and as stored."""

    at: str
    kind: str
    what: str
    data: dict[str, Any]


class Stops(TypedDict):
    """Problems whose vote ended before all planned branches did."""

    num_answered: int
    num_stopped: int
    num_branches_spared: int


class Outcome(TypedDict):
    """The forecast of the admission beside what came."""

    finished_at: str
    admitted_finish_at: str
    admitted_finish_p95_at: str
    within_p95: bool
    accuracy: float | None
    admitted_accuracy: float


class Explanation(TypedDict):
    """Why a job is run as it is."""

    object: str
    job_id: str
    state: str
    verdict: str
    admission: Decision | None
    now: Decision | None
    history: list[HistoryEntry]
    history_has_more: bool
    stops: Stops
    outcome: Outcome | None

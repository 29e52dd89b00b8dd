"""Jobs with their plans, forecasts and history."""

from typing import Any, Literal, TypedDict

JobState = Literal["queued", "running", "cancelling", "completed", "expired", "failed", "cancelled"]

TERMINAL_STATES: frozenset[JobState] = frozenset({"completed", "expired", "failed", "cancelled"})


END_KINDS = frozenset(f"job.{state}" for state in TERMINAL_STATES)
"""Kinds of the last event of a job."""


class Progress(TypedDict):
    """Problems by state."""

    pending: int
    dispatched: int
    running: int
    answered: int
    expired: int
    failed: int
    cancelled: int


class Plan(TypedDict):
    """The split in force."""

    num_branches: int
    num_speculative_tokens: int
    max_tokens: int
    max_branches: int
    wave_size: int


class Forecast(TypedDict):
    """A prediction; instants are RFC 3339 strings."""

    finish_at: str
    finish_p95_at: str
    accuracy: float


class AtRisk(TypedDict):
    """Why a promised deadline may be missed: `too_late`, `no_worker` or `overdue`."""

    reason: str
    since: str
    finish_p95_at: str | None


class Part(TypedDict):
    """Problems of a job with the same deadline of their own."""

    deadline_at: str
    num_problems: int
    plan: Plan | None
    predicted: Forecast | None
    admitted: Forecast
    at_risk: AtRisk | None
    met_deadline: bool | None


class LatencySource(TypedDict):
    """Where the step times of some workers come from."""

    num_workers: int
    device: str
    method: str
    measured_at: str


class ForecastBasis(TypedDict):
    """What a forecast rests on; `note` says why to doubt it."""

    source: str
    num_problems_seen: int
    num_branches_seen: int
    note: str | None
    latency: list[LatencySource]


class Job(TypedDict):
    """One submission; instants are RFC 3339 strings, durations seconds."""

    id: str
    object: str
    name: str
    model: str
    family: str
    state: JobState
    created_at: str
    deadline_at: str
    started_at: str | None
    finished_at: str | None
    verdict: str
    promised: bool
    met_deadline: bool | None
    retry_of: str | None
    num_problems: int
    progress: Progress
    degraded: int
    max_branches: int
    max_tokens: int | None
    min_accuracy: float | None
    temperature: float
    top_p: float
    top_k: int | None
    seed: int | None
    stop: list[str]
    thinking_token_budget: int | None
    prompt_format: str
    system_prompt: str | None
    answer_format: str
    closing_text: str | None
    grading: dict[str, Any]
    solve: bool
    weight: float
    plan: Plan | None
    parts: list[Part]
    predicted: Forecast | None
    admitted: Forecast
    forecast_basis: ForecastBasis | None
    accuracy: float | None
    at_risk: AtRisk | None
    slack_s: float | None
    time_left_s: float | None
    mean_acceptance_length: float | None
    error: str | None


class Event(TypedDict):
    """One transition or decision in a job's life; `id` is None for `job.progress`."""

    id: int | None
    job_id: str
    at: str
    kind: str
    data: dict[str, Any]

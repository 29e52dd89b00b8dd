"""JSON objects of the API as typed dictionaries; a newer server may add keys."""

from collections.abc import Sequence
from typing import Any, Literal, NotRequired, TypedDict


class Submission(TypedDict):
    """The answer of someone else to grade: `answer` as such, or a `text` that gives it."""

    id: NotRequired[str]
    answer: NotRequired[str]
    text: NotRequired[str]


class Problem(TypedDict):
    """One prompt to submit."""

    id: NotRequired[str]
    prompt: str
    reference_answer: NotRequired[str]
    grading: NotRequired[dict[str, Any]]
    submissions: NotRequired[list[Submission]]


class JobOptions(TypedDict, total=False):
    """Options of a job; None is as if left out.

    Attributes:
        family: Kind of problems; lengths and accuracy are learned and forecast by it.
        stop: Strings that end a branch.
        prompt_format: `chat`, `plain` or `auto`, by default.
        answer_format: `boxed`, `hashes`, `choice`, `number` or `auto`, by default.
        closing_text: What branches that still run go on from when the deadline nears.
        best_effort: Accept without a promise what cannot meet the deadline.
        grading: A method's name, or a method with its options such as
            `{"method": "numeric", "absolute": 0.01}`.
        solve: False only grades submissions, which then need references.
    """

    name: str | None
    family: str | None
    max_branches: int | None
    max_tokens: int | None
    min_accuracy: float | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    seed: int | None
    stop: str | Sequence[str] | None
    thinking_token_budget: int | None
    prompt_format: str | None
    system_prompt: str | None
    answer_format: str | None
    closing_text: str | None
    weight: float | None
    best_effort: bool | None
    grading: str | dict[str, Any] | None
    solve: bool | None


JobState = Literal["queued", "running", "cancelling", "completed", "expired", "failed", "cancelled"]


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


class Branch(TypedDict):
    """One sampled solution and its latency trace."""

    branch_index: int
    worker: str
    num_speculative_tokens: int
    finish_reason: str
    answer: str | None
    is_correct: bool | None
    queued_at: str
    started_at: str | None
    finished_at: str
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


class GradedSubmission(TypedDict):
    """The answer of someone else with its grade, `right`, `wrong` or `ungradable`."""

    id: str
    answer: str | None
    grade: str | None
    reason: str | None
    confidence: float | None
    graded_at: str | None


class GradeRow(TypedDict):
    """A row of the grade book; `submission_id` None is our own answer."""

    problem_id: str
    submission_id: str | None
    answer: str | None
    grade: str | None
    method: str
    reason: str | None
    reference_answer: str | None
    confidence: float | None
    graded_at: str | None


class Result(TypedDict):
    """One problem's answer, or where it stands."""

    id: str
    state: str
    answer: str | None
    vote_share: float | None
    is_correct: bool | None
    grade: str | None
    grade_reason: str | None
    degraded: bool
    num_branches_finished: int
    num_branches_planned: int | None
    error: str | None
    finished_at: str | None
    branches: list[Branch] | None
    submissions: list[GradedSubmission] | None


class Percentiles(TypedDict):
    """Percentiles of one latency in seconds."""

    p50: float | None
    p90: float | None
    p99: float | None


class LatencyGroup(TypedDict):
    """Latency of one group of a report."""

    group: str | None
    num_branches: int
    num_jobs: int
    queue_time_s: Percentiles
    ttft_s: Percentiles
    tpot_s: Percentiles
    e2e_latency_s: Percentiles
    slo_attainment: float | None
    num_refused: int


class LatencyReport(TypedDict):
    """Latency by stage over a stretch of time."""

    object: str
    start_at: str
    end_at: str
    group_by: str | None
    data: list[LatencyGroup]


class Worker(TypedDict):
    """One worker and its last sign of life."""

    name: str
    model: str
    engine: str
    status: str
    max_num_seqs: int
    max_model_len: int
    draft_lengths: list[int]
    num_running_branches: int
    started_at: str
    heartbeat_at: str
    device: str | None

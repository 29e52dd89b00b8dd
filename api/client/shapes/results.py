"""Answers, their branches and grades."""

from typing import TypedDict


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


class Result(TypedDict):
    """One problem's answer, or where it stands."""

    id: str
    position: int
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
    deadline_at: str | None
    finished_at: str | None
    branches: list[Branch] | None
    submissions: list[GradedSubmission] | None


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

"""What is submitted."""

from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict


class Submission(TypedDict):
    """The answer of someone else to grade: `answer` as such, or a `text` that gives it."""

    id: NotRequired[str]
    answer: NotRequired[str]
    text: NotRequired[str]


class Problem(TypedDict):
    """One prompt to submit; `deadline` where it is due before its job."""

    id: NotRequired[str]
    prompt: str
    reference_answer: NotRequired[str]
    deadline: NotRequired[str]
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

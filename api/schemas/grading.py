"""How answers are graded, as a client says it, and the grades."""

from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
import re2
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from api.schemas.text import Text
from scheduler.core.grading import MAX_PATTERN_BYTES, Grade, Grading, GradingMethod


def _compilable(pattern: str) -> str:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_PATTERN_BYTES
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "it is too large"
        shown = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise PydanticCustomError(
            "pattern",
            "not a regular expression of RE2 ({reason}); look-around and back-references are not"
            " part of it",
            {"reason": shown},
        ) from None
    return pattern


Pattern = Annotated[Text, Field(min_length=1, max_length=1000), AfterValidator(_compilable)]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    def grading(self) -> Grading:
        """As the worker reads it."""
        return Grading.from_dict(self.model_dump())


class EquivalenceIn(_Options):
    """Right when it means the same as the reference: `1/2` is `0.5` and `\\frac{2}{4}`."""

    method: Literal["equivalence"]


class NumericIn(_Options):
    """Right when the number is off by no more than one of the tolerances allows."""

    method: Literal["numeric"]
    absolute: float = Field(0.0, ge=0, description="Largest distance from the reference.")
    relative: float = Field(
        0.0, ge=0, le=1, description="Largest distance as a share of the reference."
    )


class ChoiceIn(_Options):
    """Right when the same letter is chosen: `B`, `(b)` and `B. because` are one choice."""

    method: Literal["choice"]
    choices: str = Field("ABCDE", pattern="^[A-Z]{2,26}$", description="Letters to choose from.")


class ExactIn(_Options):
    """Right when the text is the same; space at the ends never counts."""

    method: Literal["exact"]
    ignore_case: bool = False
    ignore_space: bool = Field(False, description="Leave out all space before comparing.")


class RegexIn(_Options):
    """Right when the whole answer matches an RE2 expression; begin with `(?i)` to ignore case."""

    method: Literal["regex"]
    pattern: Pattern | None = Field(
        None, description="Without one, each problem's `reference_answer` is its pattern."
    )


def _spelled_out(value: Any) -> Any:
    """A method by its name alone, or JSON as text, as query parameters and form fields are."""
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("{"):
        return {"method": value}
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise PydanticCustomError(
            "json", "not valid JSON ({reason})", {"reason": error.msg}
        ) from None


GradingIn = Annotated[
    EquivalenceIn | NumericIn | ChoiceIn | ExactIn | RegexIn,
    Field(discriminator="method"),
    BeforeValidator(_spelled_out),
]


class SubmissionOut(BaseModel):
    """The answer of someone else and its grade; the grade is null while it is not known."""

    id: str
    answer: str | None = Field(description="As given, or as found in the text.")
    grade: Grade | None
    reason: str | None = Field(description="Why, in a short sentence.")
    confidence: float | None = Field(
        description="Vote share of our answer, when it was graded against that; else null."
    )
    graded_at: datetime | None


class GradeOut(BaseModel):
    """A row of the grade book: one answer to one problem."""

    problem_id: str
    submission_id: str | None = Field(description="Null for our own answer.")
    answer: str | None
    grade: Grade | None = Field(description="Null while it is not known.")
    method: GradingMethod
    reason: str | None = Field(description="Why, in a short sentence.")
    reference_answer: str | None
    confidence: float | None = Field(
        description="Vote share of our answer, of ours itself and of what was graded against it."
    )
    graded_at: datetime | None


class GradePage(BaseModel):
    """Grades of some problems, in the order of submission."""

    object: Literal["list"] = "list"
    data: list[GradeOut]
    has_more: bool
    next_after: str | None = Field(description="Pass as `after` for the next page.")

"""What a client sends to submit a job."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from api.schemas.branch_options import BranchOptionsIn
from api.schemas.grading import EquivalenceIn, GradingIn
from api.schemas.text import SomeText, Text
from scheduler.core.shrinkage import ANY_FAMILY

_COMPONENT = "#/components/schemas/{model}"


class SubmissionIn(BaseModel):
    """The answer of someone else: `answer` as such, or `text` that gives it in the end."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    id: Text | None = Field(
        None,
        min_length=1,
        description="Unique within the problem; `submission-N` with N its position by default.",
    )
    answer: Text | None = Field(None, description="The final answer, such as `1/2`.")
    text: Text | None = Field(
        None, description="A worked solution; the answer is looked for as in a branch."
    )

    @model_validator(mode="after")
    def _gives_one(self) -> Self:
        if (self.answer is None) == (self.text is None):
            raise PydanticCustomError("one_of", "give either 'answer' or 'text'")
        return self


class ProblemIn(BaseModel):
    """One prompt. Numbers are accepted for the id and the reference answer."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    id: SomeText | None = Field(
        None,
        description="Unique within the job; `problem-N` with N its position from 1 by default.",
    )
    prompt: SomeText = Field(description="The question, as `prompt_format` says.")
    reference_answer: SomeText | None = Field(
        None, description="The right answer; graded answers need one."
    )
    deadline: Text | None = Field(
        None,
        description="When this answer is due, as for the job and no later than it; by default with"
        " the job.",
    )
    grading: GradingIn | None = Field(None, description="Instead of the job's.")
    submissions: list[SubmissionIn] = Field(
        # A factory: the default would be copied for every problem.
        default_factory=list,
        description="Answers of others to grade: against the reference answer, or, without one,"
        " against ours.",
    )


class RunOptions(BranchOptionsIn):
    """How problems are to be run, whatever the model."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: Text = Field("", max_length=256, description="A label of your own.")
    family: Text = Field(
        ANY_FAMILY,
        min_length=1,
        max_length=256,
        description="Kind of problems, such as `algebra`: lengths and accuracy are learned by it.",
    )
    max_branches: int = Field(16, ge=1, description="Upper bound on solutions sampled per problem.")
    max_tokens: int | None = Field(
        None, ge=1, le=1_000_000, description="Upper bound on completion tokens per branch."
    )
    min_accuracy: float | None = Field(
        None, gt=0, le=1, description="Accuracy asked for; below it the verdict says so."
    )
    best_effort: bool = Field(
        False,
        description="Accept the job without a promise where it would be refused with"
        " `deadline_infeasible`: it gets what promised jobs leave, and its deadline may cut"
        " problems off. Quotes are of promises whatever this says.",
    )
    weight: float = Field(
        1.0, gt=0, le=1000, description="Priority against the tenant's other jobs."
    )


class SetOptions(RunOptions):
    """Everything about a job but its problems and its deadline."""

    model: Text = Field(min_length=1, max_length=256, description="A model that a worker serves.")


class JobOptions(SetOptions):
    """Everything about a job but its problems."""

    deadline: str = Field(
        description="When the answers are due: `90s`, `10m`, `2h`, `1d`, counted from the moment"
        " the whole request has arrived, or an RFC 3339 time with an offset.",
    )
    grading: GradingIn = Field(
        default=EquivalenceIn(method="equivalence"),
        description="How answers are graded, unless a problem says else. The method's name alone is"
        " enough for one without options.",
    )
    deduplicate: bool = Field(
        True,
        description="Without an `Idempotency-Key`, the same submission within a few seconds is a"
        " retry and gets the first job, unless that was cancelled or has failed or expired. False"
        " makes another job.",
    )
    solve: bool = Field(
        True, description="False grades the submissions only; every problem needs a reference."
    )


class JobSubmission(JobOptions):
    """A job as one JSON document."""

    problems: list[ProblemIn] = Field(min_length=1)


def openapi_request() -> dict[str, Any]:
    """The three ways to submit, for the OpenAPI document."""
    return openapi_bodies(JobOptions, JobSubmission)


def submission_schemas() -> dict[str, Any]:
    """The parts of a submission by name, for the OpenAPI document."""
    schema = JobSubmission.model_json_schema(ref_template=_COMPONENT)
    parts: dict[str, Any] = schema["$defs"]
    return parts


def openapi_bodies(fields: type[BaseModel], whole: type[BaseModel]) -> dict[str, Any]:
    """The forms of a body: a JSON document, JSON Lines, an upload.

    Args:
        fields: The options alone.
        whole: The JSON document, the problems included.
    """
    options = fields.model_json_schema(ref_template=_COMPONENT)
    options.pop("$defs", None)
    for name, schema in options["properties"].items():
        if "discriminator" in schema:
            options["properties"][name] = {
                "type": "string",
                "description": f"{schema['description']} Its options make it a JSON object.",
            }
    upload = {
        "type": "object",
        "required": ["file", *options["required"]],
        "properties": {
            "file": {
                "type": "string",
                "format": "binary",
                "description": "JSON Lines, one problem per line.",
            },
            **options["properties"],
        },
    }
    document = whole.model_json_schema(ref_template=_COMPONENT)
    document.pop("$defs", None)
    lines = {
        "type": "string",
        "description": "One problem per line; the options are query parameters.",
        "examples": ['{"id": "p-1", "prompt": "What is 2 + 3?", "reference_answer": "5"}'],
    }
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": document},
                "application/x-ndjson": {"schema": lines},
                "multipart/form-data": {"schema": upload},
            },
        },
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": False,
                "schema": schema,
                "description": f"For JSON Lines bodies. {schema.get('description', '')}".strip(),
            }
            for name, schema in options["properties"].items()
        ],
    }

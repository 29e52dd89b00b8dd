"""Batches as the OpenAI API shows them, with ours under `slackline`. Instants are Unix seconds."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.grading import GradingIn
from api.schemas.submission import RunOptions
from api.schemas.text import Text

OPTIONS_PREFIX = "slackline."
"""Begins the metadata keys that stand for options, for clients that cannot send a body of ours."""


class OutputExpiry(BaseModel):
    """How long output and error file are kept."""

    model_config = ConfigDict(extra="forbid")

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3_600, le=2_592_000)


class BatchOptions(RunOptions):
    """How all lines are run, unless a line says otherwise under `slackline` in its body."""

    grading: GradingIn | None = Field(
        None, description="How answers to lines with a reference answer are graded."
    )


class BatchIn(BaseModel):
    """A batch to create."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    input_file_id: Text = Field(min_length=1, max_length=256)
    endpoint: str = Field(description="`/v1/chat/completions` or `/v1/completions`.")
    completion_window: str = Field(description="From `5s` to `7d`: when the answers are due.")
    metadata: (
        dict[
            Annotated[Text, Field(max_length=64)],
            Annotated[Text, Field(max_length=512)],
        ]
        | None
    ) = Field(
        None,
        max_length=16,
        description="Up to 16 pairs of your own. Keys such as `slackline.max_branches` stand for"
        " the options below.",
    )
    output_expires_after: OutputExpiry | None = None
    slackline: BatchOptions | None = Field(
        None, description="Options of ours; from the official client through `extra_body`."
    )


class BatchErrorOut(BaseModel):
    """What failed a batch, with the line of its file if one did."""

    code: str
    message: str
    param: str | None
    line: int | None


class BatchErrors(BaseModel):
    """Up to 100 of the errors that failed a batch."""

    object: Literal["list"] = "list"
    data: list[BatchErrorOut]


class RequestCounts(BaseModel):
    """Lines of the file; `total` is 0 until it is read."""

    total: int
    completed: int
    failed: int


class InputDetails(BaseModel):
    """Of the prompt tokens."""

    cached_tokens: int = 0


class OutputDetails(BaseModel):
    """Of the sampled tokens."""

    reasoning_tokens: int = 0


class BatchUsage(BaseModel):
    """Tokens of the answered lines; all branches that finished are counted."""

    input_tokens: int
    input_tokens_details: InputDetails = InputDetails()
    output_tokens: int
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int


class BatchExtras(BaseModel):
    """What only Slackline knows of a batch."""

    options: dict[str, Any]
    job_ids: list[str] = Field(description="The jobs that do the work; see `/v1/jobs`.")
    output_file_id: str | None = Field(
        description="Of the output so far, to download also while the batch runs."
    )
    error_file_id: str | None
    degraded: int = Field(description="Lines whose sampling the deadline ended.")
    predicted_finish_at: int | None = Field(description="When 95% of such batches are done.")
    predicted_accuracy: float | None


class BatchOut(BaseModel):
    """A batch."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage | None
    metadata: dict[str, str] | None
    slackline: BatchExtras


class BatchPage(BaseModel):
    """Batches, newest first."""

    object: Literal["list"] = "list"
    data: list[BatchOut]
    first_id: str | None
    last_id: str | None
    has_more: bool = Field(description="Pass `last_id` as `after` for the next page.")

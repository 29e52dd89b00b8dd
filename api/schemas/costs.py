"""What a job cost, split by what it brought."""

from typing import Literal

from pydantic import BaseModel, Field

from scheduler.core.states import JobState


class RowSecondsOut(BaseModel):
    """Seconds for which branches held rows of an engine; the parts add up to the total."""

    total: float
    useful: float = Field(description="Of branches that counted in a vote.")
    cancelled: float = Field(
        description="Of branches that were aborted: the vote was decided, the deadline struck or"
        " the job was cancelled."
    )
    rejected_drafts: float = Field(
        description="Of branches that counted, in proportion of their tokens: draft tokens that"
        " the model rejected."
    )
    retried: float = Field(description="Of branches that failed or were lost with their worker.")


class TokensOut(BaseModel):
    """Completion tokens and rejected draft tokens, in the same parts."""

    total: int
    useful: int
    cancelled: int
    rejected_drafts: int
    retried: int


class JobCostOut(BaseModel):
    """The cost of one job; of a live one, so far.

    Branches that are cut as the last problem is answered count within a second of the job's end.
    """

    object: Literal["job_cost"] = "job_cost"
    job_id: str
    state: JobState
    num_branches: int
    num_lost_batches: int = Field(
        description="Batches whose worker was lost. What ran on a killed worker at its end is"
        " known to nobody, and in no part."
    )
    row_seconds: RowSecondsOut
    tokens: TokensOut
    prompt_tokens: int = Field(
        description="Prompts of all branches; a prefix cache may have spared most of them."
    )

"""Costs."""

from typing import TypedDict


class CostParts(TypedDict):
    """Row-seconds or tokens; the parts add up to the total.

    Attributes:
        useful: Of branches that counted in a vote.
        cancelled: Of branches that were aborted.
        rejected_drafts: What rejected drafts took of the branches that counted.
        retried: Of branches that failed or were lost with their worker.
    """

    total: float
    useful: float
    cancelled: float
    rejected_drafts: float
    retried: float


class JobCost(TypedDict):
    """What a job cost; of a live one, so far."""

    object: str
    job_id: str
    state: str
    num_branches: int
    num_lost_batches: int
    row_seconds: CostParts
    tokens: CostParts
    prompt_tokens: int

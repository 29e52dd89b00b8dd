"""Costs: what a job took of the engines, and what it brought."""

from dataclasses import asdict

from fastapi import APIRouter

from api.auth import Caller, own_job
from api.dependencies import Sessions
from api.routes.jobs import NOT_FOUND, JobId
from api.schemas.costs import JobCostOut, RowSecondsOut, TokensOut
from db import costs
from db.session import transaction
from scheduler.core.states import JobState

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get("/{job_id}/cost", summary="What a job cost", responses=NOT_FOUND)
def job_cost(job_id: JobId, caller: Caller, sessions: Sessions) -> JobCostOut:
    """Row-seconds and tokens: useful, cancelled, rejected drafts and retried."""
    with transaction(sessions) as session:
        job = own_job(session, caller, job_id)
        cost = costs.job_cost(session, job_id)
        num_lost = costs.num_lost_batches(session, job_id)
    return JobCostOut(
        job_id=job_id,
        state=JobState(job.state),
        num_branches=cost.num_branches,
        num_lost_batches=num_lost,
        row_seconds=RowSecondsOut(total=cost.row_s.total, **asdict(cost.row_s)),
        tokens=TokensOut(total=cost.tokens.total, **asdict(cost.tokens)),
        prompt_tokens=cost.prompt_tokens,
    )

"""The timeline of a job down to its branches, and one problem with its votes."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import AwareDatetime

from api.auth import Caller, own_job
from api.dependencies import Sessions, utc_now
from api.errors import invalid, not_found
from api.routes.jobs import NOT_FOUND, JobId
from api.schemas.timelines import ProblemOut, TimelineOut
from api.timelines import span_view, vote_views, worker_timelines
from api.views import result_view
from db.results import problem_prompt, results_page
from db.session import transaction
from db.timeline import moment_sums, spans_between
from db.traces import branches_between

router = APIRouter(prefix="/v1/jobs", tags=["results"])


@router.get("/{job_id}/timeline", summary="When branches waited and ran", responses=NOT_FOUND)
def timeline(
    job_id: JobId,
    caller: Caller,
    sessions: Sessions,
    start: Annotated[AwareDatetime | None, Query(description="The submission by default.")] = None,
    end: Annotated[
        AwareDatetime | None,
        Query(description="Exclusive; the end of the job by default, now while it runs."),
    ] = None,
    bins: Annotated[int, Query(ge=1, le=2000, description="To sum the stretch up in.")] = 240,
    limit: Annotated[
        int, Query(ge=0, le=10_000, description="Most branches to list one by one.")
    ] = 2000,
) -> TimelineOut:
    """Finished branches by worker: how many waited, prefilled and decoded in each bin of time.

    Where they are few, every one of them is listed, too. Ask for a shorter stretch to see them.
    """
    with transaction(sessions) as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        job = own_job(session, caller, job_id)
        start_at = start or job.created_at
        end_at = end or job.finished_at or utc_now()
        if start_at >= end_at:
            raise invalid("start", "The timeline is empty: give a 'start' before 'end'.")
        stretch = {"start_at": start_at, "end_at": end_at}
        sums = moment_sums(session, job_id, **stretch, num_bins=bins)
        num_branches = sum(row.num_branches for row in sums if row.moment == 0)
        spans = None
        if num_branches <= limit:
            spans = spans_between(session, job_id, **stretch, limit=limit)
    bin_s = (end_at - start_at).total_seconds() / bins
    return TimelineOut(
        job_id=job_id,
        start_at=start_at,
        end_at=end_at,
        bin_s=bin_s,
        num_branches=num_branches,
        workers=worker_timelines(sums, bin_s=bin_s, num_bins=bins),
        branches=None if spans is None else [span_view(span) for span in spans],
    )


@router.get("/{job_id}/problems/{position}", summary="One problem", responses=NOT_FOUND)
def read_problem(
    job_id: JobId,
    position: Annotated[int, Path(ge=0, lt=2**31, description="Within the job, from 0.")],
    caller: Caller,
    sessions: Sessions,
) -> ProblemOut:
    """Prompt, answer, votes and every stored branch of a problem, also while it runs."""
    with transaction(sessions) as session:
        own_job(session, caller, job_id)
        found = results_page(session, job_id, after=position - 1, limit=1)
        if not found or found[0].position != position:
            raise not_found("problem of this job", str(position))
        prompt = problem_prompt(session, job_id, position)
        traces = branches_between(session, job_id, first=position, last=position)
    branches = traces.get(position, [])
    return ProblemOut(
        **result_view(found[0], branches).model_dump(),
        job_id=job_id,
        prompt=prompt.prompt,
        reference_answer=prompt.reference_answer,
        predicted_accuracy=found[0].predicted_accuracy,
        votes=vote_views(branches),
    )

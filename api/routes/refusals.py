"""Refusals: what admission turned away, beside which attainment has to be read."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.auth import Caller
from api.dependencies import Sessions
from api.schemas.refusals import RefusalOut, RefusalPage
from db.refusals import list_refusals
from db.session import transaction
from scheduler.core.decisions import RejectReason

router = APIRouter(prefix="/v1/refusals", tags=["jobs"])


@router.get("", summary="List refused submissions, newest first")
def refusals(
    caller: Caller,
    sessions: Sessions,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[
        int | None, Query(ge=0, lt=2**63, description="`next_after` of the page before.")
    ] = None,
) -> RefusalPage:
    """A page of your refused submissions. Bad input is no refusal: it was never considered."""
    with transaction(sessions) as session:
        found = list_refusals(session, caller, limit=limit + 1, before=after)
    page, has_more = found[:limit], len(found) > limit
    return RefusalPage(
        data=[
            RefusalOut(
                at=refusal.at,
                reason=RejectReason(refusal.reason),
                model=refusal.model,
                num_problems=refusal.num_problems,
                mean_prompt_tokens=refusal.mean_prompt_tokens,
                max_branches=refusal.max_branches,
                deadline_at=refusal.deadline_at,
                earliest_finish_at=refusal.earliest_finish_at,
            )
            for refusal in page
        ],
        has_more=has_more,
        next_after=str(page[-1].id) if has_more else None,
    )

"""Reports over a stretch of time."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from api.auth import Caller
from api.dependencies import Sessions, utc_now
from api.errors import invalid
from api.schemas.reports import LatencyReportOut
from api.schemas.text import Text
from api.views import latency_group_view
from db.reports import GroupBy, latency_report
from db.session import transaction

router = APIRouter(prefix="/v1/reports", tags=["reports"])

_DEFAULT_SPAN = timedelta(days=7)


@router.get("/latency", summary="Latency by stage and attainment")
def latency(
    caller: Caller,
    sessions: Sessions,
    group_by: Annotated[GroupBy | None, Query(description="Split the report.")] = None,
    model: Annotated[Text | None, Query(max_length=256, description="Only this model.")] = None,
    start: Annotated[AwareDatetime | None, Query(description="Seven days before `end`.")] = None,
    end: Annotated[AwareDatetime | None, Query(description="Now by default; exclusive.")] = None,
) -> LatencyReportOut:
    """P50, P90 and P99 of branches, and attainment of jobs, that ended in [start, end)."""
    until = end or utc_now()
    since = start or until - _DEFAULT_SPAN
    if since >= until:
        raise invalid("start", "The report is empty: give a 'start' before 'end'.")
    with transaction(sessions) as session:
        rows = latency_report(
            session, since=since, until=until, model=model, tenant_id=caller, group_by=group_by
        )
    return LatencyReportOut(
        start_at=since,
        end_at=until,
        group_by=group_by,
        data=[latency_group_view(row) for row in rows],
    )

"""Reports over a stretch of time: one endpoint each, with the same range, groups and filters."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, TypeVar

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from api import exports
from api.dependencies import Sessions
from api.report_questions import Asked, Instant, Layout, Question, Selected, check_range
from api.report_tables import Change, changes, columns_of, schema_of, table_row
from api.schemas.reports import (
    AccuracyReportOut,
    AttainmentReportOut,
    CalibrationReportOut,
    ComparisonOut,
    CostReportOut,
    LatencyReportOut,
    ReportOut,
    SpeculationReportOut,
)
from db.reports import (
    AccuracyRow,
    AttainmentRow,
    CalibrationRow,
    CostRow,
    Every,
    GroupBy,
    LatencyRow,
    Selection,
    SpeculationRow,
    accuracy_report,
    attainment_report,
    calibration_report,
    cost_report,
    latency_report,
    speculation_report,
)
from db.session import SessionFactory, transaction

router = APIRouter(prefix="/v1/reports", tags=["reports"])

Name: TypeAlias = Literal[
    "latency", "attainment", "calibration", "accuracy", "speculation", "costs"
]
Shape = TypeVar("Shape", bound=ReportOut[Any])


class _Report(NamedTuple):
    report: Callable[..., list[Any]]
    row: type[Any]


_REPORTS: dict[Name, _Report] = {
    "latency": _Report(latency_report, LatencyRow),
    "attainment": _Report(attainment_report, AttainmentRow),
    "calibration": _Report(calibration_report, CalibrationRow),
    "accuracy": _Report(accuracy_report, AccuracyRow),
    "speculation": _Report(speculation_report, SpeculationRow),
    "costs": _Report(cost_report, CostRow),
}

_TABLES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            kind.partition(";")[0]: {"schema": {"type": "string", "format": "binary"}}
            for kind in (exports.CSV, exports.PARQUET)
        },
        "description": "The report, or a table of it.",
    }
}


@router.get(
    "/latency",
    summary="Latency by stage and attainment",
    response_model=LatencyReportOut,
    responses=_TABLES,
)
def latency(asked: Asked, sessions: Sessions) -> LatencyReportOut | StreamingResponse:
    """P50, P90 and P99 of branches, and attainment of jobs, that ended in [start, end)."""
    return _answer("latency", LatencyReportOut, asked, sessions)


@router.get(
    "/attainment",
    summary="Attainment, lateness, slack and goodput",
    response_model=AttainmentReportOut,
    responses=_TABLES,
)
def attainment(asked: Asked, sessions: Sessions) -> AttainmentReportOut | StreamingResponse:
    """Which of the jobs that ended in [start, end) were in time, and by how much."""
    return _answer("attainment", AttainmentReportOut, asked, sessions)


@router.get(
    "/calibration",
    summary="Forecasts against what came",
    response_model=CalibrationReportOut,
    responses=_TABLES,
)
def calibration(asked: Asked, sessions: Sessions) -> CalibrationReportOut | StreamingResponse:
    """Predicted ends and accuracies of the jobs that ended in [start, end), against the actual."""
    return _answer("calibration", CalibrationReportOut, asked, sessions)


@router.get(
    "/accuracy",
    summary="Accuracy against branches",
    response_model=AccuracyReportOut,
    responses=_TABLES,
)
def accuracy(asked: Asked, sessions: Sessions) -> AccuracyReportOut | StreamingResponse:
    """What votes over fewer branches would have given, for the jobs that ended in [start, end)."""
    return _answer("accuracy", AccuracyReportOut, asked, sessions)


@router.get(
    "/speculation",
    summary="Acceptance and time per token by draft length and rows",
    response_model=SpeculationReportOut,
    responses=_TABLES,
)
def speculation(asked: Asked, sessions: Sessions) -> SpeculationReportOut | StreamingResponse:
    """What drafts gained for the branches that ended in [start, end)."""
    return _answer("speculation", SpeculationReportOut, asked, sessions)


@router.get(
    "/costs",
    summary="Row-seconds and tokens by what they brought",
    response_model=CostReportOut,
    responses=_TABLES,
)
def costs(asked: Asked, sessions: Sessions) -> CostReportOut | StreamingResponse:
    """What the branches that ended in [start, end) cost: useful, cancelled, rejected, retried."""
    return _answer("costs", CostReportOut, asked, sessions)


@router.get(
    "/compare",
    summary="A report in two ranges",
    response_model=ComparisonOut,
    responses=_TABLES,
)
def compare(
    selection: Selected,
    sessions: Sessions,
    report: Annotated[Name, Query(description="What to compare.")] = "latency",
    before_start: Annotated[
        Instant | None,
        Query(description="By default the range before `start`, as long as the other."),
    ] = None,
    before_end: Annotated[Instant | None, Query(description="`start` by default.")] = None,
    group_by: Annotated[
        Literal["model", "engine", "tenant", "family", "deadline_class", "split"] | None,
        Query(description="Compare each of these."),
    ] = None,
    layout: Annotated[Layout, Query(alias="format")] = "json",
) -> ComparisonOut | StreamingResponse:
    """Every number of a report in [start, end) beside the same in the range before."""
    earlier = Selection(
        since=before_start or selection.since - (selection.until - selection.since),
        until=before_end or selection.since,
        tenant_id=selection.tenant_id,
        filters=selection.filters,
    )
    check_range(earlier.since, earlier.until, "before_start", "before_end")
    group = None if group_by is None else GroupBy(group_by)
    before, after = (_rows(sessions, report, which, group) for which in (earlier, selection))
    found = changes(before, after)
    if layout != "json":
        return _table("compare", layout, Change, found)
    return ComparisonOut(
        report=report,
        start_at=selection.since,
        end_at=selection.until,
        before_start_at=earlier.since,
        before_end_at=earlier.until,
        group_by=group,
        data=found,
    )


def _answer(
    name: Name, shape: type[Shape], asked: Question, sessions: SessionFactory
) -> Shape | StreamingResponse:
    rows = _rows(sessions, name, asked.selection, asked.group_by, asked.every)
    if asked.layout != "json":
        return _table(name, asked.layout, _REPORTS[name].row, rows)
    return shape(
        start_at=asked.selection.since,
        end_at=asked.selection.until,
        group_by=asked.group_by,
        every=asked.every,
        data=rows,
    )


def _rows(
    sessions: SessionFactory,
    name: Name,
    selection: Selection,
    group_by: GroupBy | None,
    every: Every | None = None,
) -> list[Any]:
    with transaction(sessions) as session:
        # What is read from rollups and from rows must be of one moment.
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        return _REPORTS[name].report(session, selection, group_by=group_by, every=every)


def _table(name: str, layout: Layout, kind: type[Any], rows: list[Any]) -> StreamingResponse:
    table = [table_row(row) for row in rows]
    if layout == "csv":
        content = exports.csv_of([name for name, _ in columns_of(kind)], [table])
    else:
        content = exports.parquet_of(partial(schema_of, kind), [table])
    return StreamingResponse(
        content,
        media_type=exports.CSV if layout == "csv" else exports.PARQUET,
        headers={"Content-Disposition": f'attachment; filename="{name}.{layout}"'},
    )

"""Reports over stored traces: latency by stage, attainment, and refusals beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, literal, select
from sqlalchemy.orm import Session

from db.branches import FINISHED
from db.models import Branch, Job, Refusal
from scheduler.core.states import JobState

_PERCENTS = (0.5, 0.9, 0.99)

# Per output token after the first (tpot_s); a branch of one token has none.
_TPOT_S = Branch.decode_time_s / func.nullif(Branch.completion_tokens - 1, 0)
_E2E_S = func.extract("epoch", Branch.finished_at - Branch.queued_at)


class GroupBy(StrEnum):
    """What one row of the latency report stands for."""

    MODEL = "model"
    TENANT = "tenant"
    HOUR = "hour"


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Linearly interpolated percentiles in seconds."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Stages of finished branches in seconds; None where no branch has the stage."""

    num_branches: int
    queue_time_s: Percentiles | None
    ttft_s: Percentiles | None
    tpot_s: Percentiles | None
    e2e_latency_s: Percentiles | None


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """One group of the report.

    Attributes:
        group: Model name, tenant id, or the hour's start; None without grouping.
        num_jobs: Jobs that ended in the range, cancelled ones left out.
        slo_attainment: Fraction of those with a promise that completed by their deadline: no
            problem expired, and not all of them failed. None without such jobs.
        num_refused: Submissions that were refused in the range.
    """

    group: str | datetime | None
    latency: Latency
    num_jobs: int
    slo_attainment: float | None
    num_refused: int


def latency_report(
    session: Session,
    *,
    since: datetime,
    until: datetime,
    model: str | None = None,
    tenant_id: str | None = None,
    group_by: GroupBy | None = None,
) -> list[LatencyRow]:
    """Stages of branches, and attainment of jobs, that ended in [since, until), by group.

    Refusals of the same time are counted beside: what is refused misses no deadline.
    """
    filters = _filters(Job, model, tenant_id)
    stages = {
        row.grouping: row
        for row in session.execute(
            select(_group(group_by, Job, Branch.finished_at).label("grouping"), *_stage_columns())
            .join(Job, Branch.job_id == Job.id)
            .where(
                Branch.finished_at >= since,
                Branch.finished_at < until,
                Branch.finish_reason.in_(FINISHED),
                *filters,
            )
            .group_by("grouping")
        )
    }
    jobs = {
        row.grouping: row for row in session.execute(_attainment(group_by, since, until, filters))
    }
    refusals = {
        row.grouping: row.num_refused
        for row in session.execute(
            select(
                _group(group_by, Refusal, Refusal.at).label("grouping"),
                func.count().label("num_refused"),
            )
            .where(Refusal.at >= since, Refusal.at < until, *_filters(Refusal, model, tenant_id))
            .group_by("grouping")
        )
    }
    groups = sorted(stages.keys() | jobs.keys() | refusals.keys(), key=str)
    return [
        _latency_row(group, stages.get(group), jobs.get(group), refusals.get(group, 0))
        for group in groups
    ]


def _filters(
    table: type[Job | Refusal], model: str | None, tenant_id: str | None
) -> list[ColumnElement[bool]]:
    filters = []
    if model is not None:
        filters.append(table.model == model)
    if tenant_id is not None:
        filters.append(table.tenant_id == tenant_id)
    return filters


def _group(group_by: GroupBy | None, table: type[Job | Refusal], at: Any) -> ColumnElement[Any]:
    match group_by:
        case None:
            return literal(None)
        case GroupBy.MODEL:
            return table.model.expression
        case GroupBy.TENANT:
            return table.tenant_id.expression
        case GroupBy.HOUR:
            return func.date_trunc("hour", at, "UTC")


def _stage_columns() -> list[ColumnElement[Any]]:
    stages = {
        "queue_time_s": Branch.queue_time_s,
        "ttft_s": Branch.ttft_s,
        "tpot_s": _TPOT_S,
        "e2e_latency_s": _E2E_S,
    }
    return [
        func.count().label("num_branches"),
        *(
            func.percentile_cont(list(_PERCENTS)).within_group(column).label(name)
            for name, column in stages.items()
        ),
    ]


def _attainment(
    group_by: GroupBy | None,
    since: datetime,
    until: datetime,
    filters: Sequence[ColumnElement[bool]],
) -> Select[Any]:
    met = and_(Job.state == JobState.COMPLETED, Job.finished_at <= Job.deadline_at)
    return (
        select(
            _group(group_by, Job, Job.finished_at).label("grouping"),
            func.count().label("num_jobs"),
            func.avg(case((met, 1.0), else_=0.0)).filter(Job.is_promised).label("slo_attainment"),
        )
        .where(
            Job.finished_at >= since,
            Job.finished_at < until,
            Job.state != JobState.CANCELLED,
            *filters,
        )
        .group_by("grouping")
    )


def _latency_row(group: Any, stages: Any, jobs: Any, num_refused: int) -> LatencyRow:
    attainment = None if jobs is None else jobs.slo_attainment
    return LatencyRow(
        group=group,
        latency=_latency(stages),
        num_jobs=0 if jobs is None else jobs.num_jobs,
        slo_attainment=None if attainment is None else float(attainment),
        num_refused=num_refused,
    )


def _latency(row: Any) -> Latency:
    if row is None:
        return Latency(0, None, None, None, None)
    return Latency(
        num_branches=row.num_branches,
        queue_time_s=_percentiles(row.queue_time_s),
        ttft_s=_percentiles(row.ttft_s),
        tpot_s=_percentiles(row.tpot_s),
        e2e_latency_s=_percentiles(row.e2e_latency_s),
    )


def _percentiles(values: Sequence[Any] | None) -> Percentiles | None:
    return None if values is None else Percentiles(*(float(value) for value in values))

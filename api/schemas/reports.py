"""Reports over a stretch of time, and the workers that serve."""

from datetime import datetime
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from api.report_tables import Change
from db.reports import (
    AccuracyRow,
    AttainmentRow,
    CalibrationRow,
    CostRow,
    Every,
    GroupBy,
    LatencyRow,
    SpeculationRow,
)

Row = TypeVar("Row")


class ReportOut(BaseModel, Generic[Row]):
    """Rows by group, and by hour or day within it, about what ended in [start_at, end_at)."""

    start_at: datetime
    end_at: datetime
    group_by: GroupBy | None
    every: Every | None
    data: list[Row]


class LatencyReportOut(ReportOut[LatencyRow]):
    """P50, P90 and P99 by stage."""

    object: Literal["latency_report"] = "latency_report"


class AttainmentReportOut(ReportOut[AttainmentRow]):
    """Which jobs were in time, and by how much."""

    object: Literal["attainment_report"] = "attainment_report"


class CalibrationReportOut(ReportOut[CalibrationRow]):
    """Whether forecasts came true."""

    object: Literal["calibration_report"] = "calibration_report"


class AccuracyReportOut(ReportOut[AccuracyRow]):
    """Accuracy against branches."""

    object: Literal["accuracy_report"] = "accuracy_report"


class SpeculationReportOut(ReportOut[SpeculationRow]):
    """What drafts gained."""

    object: Literal["speculation_report"] = "speculation_report"


class CostReportOut(ReportOut[CostRow]):
    """Row-seconds and tokens, by what they brought."""

    object: Literal["cost_report"] = "cost_report"


class ComparisonOut(BaseModel):
    """The numbers of one report in two ranges."""

    object: Literal["comparison"] = "comparison"
    report: str
    start_at: datetime
    end_at: datetime
    before_start_at: datetime
    before_end_at: datetime
    group_by: GroupBy | None
    data: list[Change]


class WorkerOut(BaseModel):
    """One worker and its last sign of life."""

    name: str
    model: str
    engine: str
    status: Literal["alive", "silent", "stopped"]
    max_num_seqs: int
    max_model_len: int
    draft_lengths: list[int]
    num_running_branches: int
    started_at: datetime
    heartbeat_at: datetime
    device: str | None = Field(description="Where its latency profile was measured.")


class WorkerList(BaseModel):
    """Workers by name."""

    object: Literal["list"] = "list"
    data: list[WorkerOut]

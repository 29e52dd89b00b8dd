"""Reports over a stretch of time, and the workers that serve."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from db.reports import GroupBy


class PercentilesOut(BaseModel):
    """Percentiles of one latency, in seconds; null without a sample."""

    p50: float | None
    p90: float | None
    p99: float | None


class LatencyGroupOut(BaseModel):
    """Latency of the branches and jobs that ended in the window, for one group."""

    group: str | None = Field(description="Model, tenant id or start of the hour; null for all.")
    num_branches: int
    num_jobs: int
    queue_time_s: PercentilesOut
    ttft_s: PercentilesOut
    tpot_s: PercentilesOut
    e2e_latency_s: PercentilesOut
    slo_attainment: float | None = Field(
        description="Fraction of finished jobs with a promise that met their deadline; null without"
        " one."
    )
    num_refused: int = Field(description="Submissions refused in the window, which missed none.")


class LatencyReportOut(BaseModel):
    """P50, P90 and P99 by stage."""

    object: Literal["latency_report"] = "latency_report"
    start_at: datetime
    end_at: datetime
    group_by: GroupBy | None
    data: list[LatencyGroupOut]


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

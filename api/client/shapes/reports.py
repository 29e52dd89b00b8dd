"""Reports over stretches of time."""

from typing import TypedDict


class Percentiles(TypedDict):
    """Percentiles of one latency in seconds."""

    p50: float | None
    p90: float | None
    p99: float | None


class LatencyGroup(TypedDict):
    """Latency of one group of a report."""

    group: str | None
    num_branches: int
    num_jobs: int
    queue_time_s: Percentiles
    ttft_s: Percentiles
    tpot_s: Percentiles
    e2e_latency_s: Percentiles
    slo_attainment: float | None
    num_refused: int


class LatencyReport(TypedDict):
    """Latency by stage over a stretch of time."""

    object: str
    start_at: str
    end_at: str
    group_by: str | None
    data: list[LatencyGroup]

"""Reports over stretches of time."""

from typing import Any, TypedDict


class Percentiles(TypedDict):
    """Percentiles of one latency in seconds."""

    p50: float | None
    p90: float | None
    p99: float | None


class Report(TypedDict):
    """Rows by group, and by hour or day within it; docs/reports.md tells what is in them."""

    object: str
    start_at: str
    end_at: str
    group_by: str | None
    every: str | None
    data: list[dict[str, Any]]


class ReportFilters(TypedDict, total=False):
    """What a report is restricted to."""

    model: str | None
    engine: str | None
    family: str | None
    deadline_class: str | None
    split: str | None


class Change(TypedDict):
    """One number of a report in two ranges; `metric` is its path in a row."""

    group: str | None
    metric: str
    before: float | None
    after: float | None
    difference: float | None
    ratio: float | None


class Comparison(TypedDict):
    """The numbers of one report in two ranges."""

    object: str
    report: str
    start_at: str
    end_at: str
    before_start_at: str
    before_end_at: str
    group_by: str | None
    data: list[Change]

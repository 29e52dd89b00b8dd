"""Draws reports in the terminal: one row per group, or per group and line of its list."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from rich.table import Table

from api.client.shapes import Comparison, Report

Row: TypeAlias = dict[str, Any]
_MAX_CHANGES = 200


def report_table(report: Report) -> Table:
    """The table of any report."""
    kind = report["object"]
    columns, lines, caption = _TABLES[kind]
    by_time = bool(report.get("every"))
    first = report["group_by"] or "all"
    table = Table(first, *(["from"] if by_time else []), *columns, caption=caption)
    for row in report["data"]:
        for cells in lines(row):
            at = [_instant(row["at"])] if by_time else []
            table.add_row(_group(report, row), *at, *cells)
    return table


def comparison_table(comparison: Comparison) -> Table:
    """Numbers that differ between two ranges, those that differ most first."""
    table = Table(
        comparison["group_by"] or "all", comparison["report"], "before", "after", "change",
        caption=f"{comparison['before_start_at']} and {comparison['start_at']} onward",
    )  # fmt: skip
    changed = [change for change in comparison["data"] if change["before"] != change["after"]]
    changed.sort(key=lambda change: -abs((change["ratio"] or 2.0) - 1))
    for change in changed[:_MAX_CHANGES]:
        ratio = change["ratio"]
        table.add_row(
            change["group"] or "all",
            change["metric"],
            _number(change["before"]),
            _number(change["after"]),
            "" if ratio is None else f"{ratio - 1:+.1%}",
        )
    return table


def _latency(row: Row) -> Iterator[list[str]]:
    yield [
        str(row["num_jobs"]),
        _share(row["slo_attainment"]),
        str(row["num_refused"]),
        str(row["num_branches"]),
        _percentiles(row["queue_time_s"]),
        _percentiles(row["ttft_s"]),
        _percentiles(row["tpot_s"], scale=1000, digits=1),
        _percentiles(row["e2e_latency_s"]),
    ]


def _attainment(row: Row) -> Iterator[list[str]]:
    yield [
        str(row["num_jobs"]),
        _interval(row["slo_attainment"]),
        str(row["num_refused"]),
        f"{3600 * row['request_goodput']:.1f}",
        _percentiles(row["lateness_s"]),
        _percentiles(row["slack_s"]),
    ]


def _calibration(row: Row) -> Iterator[list[str]]:
    yield [
        str(row["num_jobs"]),
        _interval(row["finish_p50"]),
        _interval(row["finish_p95"]),
        _percentiles(row["finish_error_s"]),
        str(row["num_problems"]),
        _share(row["predicted_accuracy"]),
        _interval(row["accuracy"]),
    ]


def _accuracy(row: Row) -> Iterator[list[str]]:
    for width in row["widths"]:
        yield [
            str(width["num_branches"]),
            str(width["num_problems"]),
            _interval(width["accuracy"]),
            _share(width["accuracy_of_all"]),
            f"{width['row_seconds']:.1f}",
            f"{width['saved_row_seconds']:,.0f}",
            f"{width['saved_engine_seconds']:,.1f}",
        ]


def _speculation(row: Row) -> Iterator[list[str]]:
    for draft in row["by_draft"]:
        for line, rows in ((draft, "all"), *((r, _range(r)) for r in draft["by_rows"])):
            yield [
                str(draft["num_speculative_tokens"]),
                rows,
                str(line["num_branches"]),
                _share(line["acceptance_rate"]),
                f"{line['mean_acceptance_length']:.2f}",
                _percentiles(line["tpot_s"], scale=1000, digits=1),
            ]


def _costs(row: Row) -> Iterator[list[str]]:
    for amount, unit in (("row_seconds", "row-s"), ("tokens", "tokens")):
        parts = row[amount]
        shares = (parts[name] / parts["total"] if parts["total"] else None for name in _PARTS)
        yield [unit, f"{parts['total']:,.0f}", *map(_share, shares)]


_PARTS = ("useful", "cancelled", "rejected_drafts", "retried")
_SPREAD = "P50 / P90 / P99"
_TABLES: dict[str, tuple[tuple[str, ...], Callable[[Row], Iterator[list[str]]], str]] = {
    "latency_report": (
        ("jobs", "in time", "refused", "branches", "queue s", "TTFT s", "TPOT ms", "end to end s"),
        _latency,
        _SPREAD,
    ),
    "attainment_report": (
        ("jobs", "in time", "refused", "in time per h", "late by s", "slack at submission s"),
        _attainment,
        f"{_SPREAD}; 95% intervals",
    ),
    "calibration_report": (
        ("jobs", "by P50", "by P95", "end off by s", "graded", "predicted", "right"),
        _calibration,
        f"{_SPREAD}; 95% intervals",
    ),
    "accuracy_report": (
        (
            "branches",
            "problems",
            "right",
            "right with all",
            "row-s each",
            "row-s saved",
            "GPU s saved",
        ),
        _accuracy,
        "Votes over fewer branches of the same problems; 95% intervals",
    ),
    "speculation_report": (
        ("draft", "rows in use", "branches", "accepted", "tokens per step", "TPOT ms"),
        _speculation,
        _SPREAD,
    ),
    "cost_report": (
        ("of", "total", "useful", "cancelled", "rejected drafts", "retried"),
        _costs,
        "Parts of the total; docs/reports.md tells what is in them",
    ),
}


def _group(report: Report, row: Row) -> str:
    if report["group_by"] is None:
        return "all"
    return row["group"] or "unknown"


def _instant(text: str) -> str:
    return text[:16].replace("T", " ")


def _range(rows: Row) -> str:
    if rows["ge"] is None:
        return "unknown"
    return f"{rows['ge']}+" if rows["lt"] is None else f"{rows['ge']}-{rows['lt'] - 1}"


def _percentiles(values: Row, scale: float = 1.0, digits: int = 2) -> str:
    if values["p50"] is None:
        return ""
    return " / ".join(f"{values[name] * scale:.{digits}f}" for name in ("p50", "p90", "p99"))


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _interval(share: Row) -> str:
    if share["value"] is None:
        return ""
    return f"{share['value']:.1%} ({share['low']:.0%}-{share['high']:.0%})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"

"""Reports as tables: what people see of the numbers that the API gives."""

from typing import Any

from rich.console import Console
from rich.table import Table

from api.client.report_tables import comparison_table, report_table
from api.client.shapes import Comparison, Report

PERCENTILES = {"p50": 0.01, "p90": 0.02, "p99": 0.03}
NOTHING = {"p50": None, "p90": None, "p99": None}


def shown(table: Table) -> str:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def report(kind: str, *rows: dict[str, Any], **overrides: Any) -> Report:
    whole: Any = {
        "object": f"{kind}_report",
        "start_at": "2026-01-05T00:00:00Z",
        "end_at": "2026-01-06T00:00:00Z",
        "group_by": None,
        "every": None,
        "data": [{"group": None, "at": None, **row} for row in rows],
    }
    found: Report = whole | overrides
    return found


def test_each_draft_has_a_line_for_all_and_one_for_each_number_of_rows() -> None:
    numbers = {"num_branches": 5, "mean_acceptance_length": 2.5, "tpot_s": PERCENTILES}
    ranges = [(None, None), (1, 2), (8, 16), (16384, None)]
    draft = numbers | {
        "num_speculative_tokens": 4,
        "acceptance_rate": 0.75,
        "by_rows": [numbers | {"ge": ge, "lt": lt, "acceptance_rate": None} for ge, lt in ranges],
    }

    text = shown(report_table(report("speculation", {"by_draft": [draft]})))

    for rows in ("unknown", "1-1", "8-15", "16384+"):
        assert rows in text
    (whole,) = [line for line in text.splitlines() if "75.0%" in line]
    assert "10.0 / 20.0 / 30.0" in whole


def test_costs_are_shares_of_the_total_in_time_and_in_tokens() -> None:
    parts = {"useful": 6, "cancelled": 3, "rejected_drafts": 1, "retried": 0, "total": 10}
    row = {"row_seconds": parts, "tokens": dict.fromkeys(parts, 0)}

    time, tokens = shown(report_table(report("cost", row))).splitlines()[3:5]

    for text in ("row-s", "10", "60.0%", "30.0%", "10.0%", "0.0%"):
        assert text in time
    assert "%" not in tokens


def test_rows_over_time_say_when_and_what_is_unknown_is_called_that() -> None:
    row = {
        "at": "2026-01-05T13:00:00Z",
        "num_jobs": 3,
        "slo_attainment": {"value": 0.5, "low": 0.25, "high": 0.75},
        "num_refused": 1,
        "request_goodput": 1 / 3600,
        "lateness_s": NOTHING,
        "slack_s": PERCENTILES,
    }
    text = shown(report_table(report("attainment", row, group_by="engine", every="hour")))

    for words in ("unknown", "2026-01-05 13:00", "50.0% (25%-75%)", "1.0"):
        assert words in text


def test_the_largest_changes_come_first_and_what_stayed_is_left_out() -> None:
    def change(metric: str, before: float | None, after: float | None) -> dict[str, Any]:
        ratio = after / before if before and after is not None else None
        return {"group": None, "metric": metric, "before": before, "after": after, "ratio": ratio}

    comparison: Any = {
        "report": "latency",
        "group_by": None,
        "before_start_at": "2026-01-04T00:00:00Z",
        "start_at": "2026-01-05T00:00:00Z",
        "data": [
            change("same", 1.0, 1.0),
            change("little", 100.0, 101.0),
            change("much", 2.0, 1.0),
            change("new", None, 7.0),
        ],
    }
    found: Comparison = comparison
    text = shown(comparison_table(found))

    assert "same" not in text
    assert text.index("new") < text.index("much") < text.index("little")
    assert "-50.0%" in text

"""What a finished job of the demo came to: a table for people, one JSON object for programs."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import TypedDict

from rich.table import Table

from api.client.shapes import Job, Percentiles, Report, Result


class JobSummary(TypedDict):
    """One job in the demo's last line. Durations are seconds from its submission.

    The plan may change while a job runs; the split is the one that most problems (`num_branches`)
    and most branches (`num_speculative_tokens`) were given; a problem may need fewer branches.
    """

    name: str
    problems: int
    answered: int
    expired: int
    met_deadline: bool
    accuracy: float | None
    predicted_accuracy: float
    num_branches: int | None
    num_speculative_tokens: int | None
    mean_acceptance_length: float | None
    finish_s: float | None
    predicted_finish_s: float
    deadline_s: float


def job_summary(job: Job, results: Iterable[Result]) -> JobSummary:
    """The numbers of a finished job; predictions are those made at its submission.

    Args:
        results: With their branches.
    """
    widths: Counter[int] = Counter()
    drafts: Counter[int] = Counter()
    for result in results:
        if result["num_branches_planned"] is not None:
            widths[result["num_branches_planned"]] += 1
        drafts.update(branch["num_speculative_tokens"] for branch in result["branches"] or [])
    return JobSummary(
        name=job["name"],
        problems=job["num_problems"],
        answered=job["progress"]["answered"],
        expired=job["progress"]["expired"],
        met_deadline=bool(job["met_deadline"]),
        accuracy=job["accuracy"],
        predicted_accuracy=job["admitted"]["accuracy"],
        num_branches=most_common(widths),
        num_speculative_tokens=most_common(drafts),
        mean_acceptance_length=job["mean_acceptance_length"],
        finish_s=_since_submission(job, job["finished_at"]),
        predicted_finish_s=_seconds(job, job["admitted"]["finish_at"]),
        deadline_s=_seconds(job, job["deadline_at"]),
    )


def most_common(counts: Counter[int]) -> int | None:
    """The value seen most often, None when nothing was seen."""
    return counts.most_common(1)[0][0] if counts else None


def job_table(job: Job, summary: JobSummary, report: Report) -> Table:
    """Planned beside actual, and the latency of its branches by stage."""
    table = Table(title=f"{job['name']} ({job['model']})", title_justify="left")
    table.add_column("")
    table.add_column("predicted", justify="right")
    table.add_column("actual", justify="right")
    finish, expected = summary["finish_s"], summary["predicted_finish_s"]
    p95_s = _seconds(job, job["admitted"]["finish_p95_at"])
    table.add_row("finish", f"{expected:.1f} s (P95 {p95_s:.1f} s)", _number(finish, " s"))
    table.add_row("deadline", f"{summary['deadline_s']:.1f} s", _verdict(job))
    table.add_row("accuracy", f"{summary['predicted_accuracy']:.1%}", _percent(job["accuracy"]))
    table.add_row("answered", str(summary["problems"]), str(summary["answered"]))
    table.add_row("degraded", "0", str(job["degraded"]))
    split = f"up to {summary['num_branches']} branches, draft {summary['num_speculative_tokens']}"
    table.add_row("split", split, f"{_number(summary['mean_acceptance_length'])} tokens per step")
    table.add_section()
    table.add_row("latency of a branch", "P50", "P90", style="bold")
    for stage, percentiles in _stages(job, report).items():
        table.add_row(stage, _duration(percentiles["p50"]), _duration(percentiles["p90"]))
    return table


def _stages(job: Job, report: Report) -> dict[str, Percentiles]:
    for group in report["data"]:
        if group["group"] == job["model"]:
            return {
                "waiting for a row": group["queue_time_s"],
                "first token": group["ttft_s"],
                "per output token": group["tpot_s"],
                "end to end": group["e2e_latency_s"],
            }
    return {}


def _verdict(job: Job) -> str:
    return "met" if job["met_deadline"] else "missed"


def _seconds(job: Job, instant: str) -> float:
    """Seconds from the job's submission to an RFC 3339 instant."""
    start = datetime.fromisoformat(job["created_at"])
    return round((datetime.fromisoformat(instant) - start).total_seconds(), 3)


def _since_submission(job: Job, instant: str | None) -> float | None:
    return None if instant is None else _seconds(job, instant)


def _number(value: float | None, unit: str = "") -> str:
    return "unknown" if value is None else f"{value:.1f}{unit}"


def _percent(fraction: float | None) -> str:
    return "ungraded" if fraction is None else f"{fraction:.1%}"


def _duration(value_s: float | None) -> str:
    if value_s is None:
        return "unknown"
    return f"{value_s * 1000:.1f} ms" if value_s < 1 else f"{value_s:.1f} s"

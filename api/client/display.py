"""Draws jobs, results and workers in the terminal."""

from collections.abc import Iterable
from datetime import UTC, datetime

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column, Table

from api.client.shapes import Job, Part, Result, Worker

_JOB_ID_CHARS = len("job_") + 32
_PARTS_SHOWN = 3


def num_finished(job: Job) -> int:
    """Problems that have reached their end."""
    progress = job["progress"]
    num_open = progress["pending"] + progress["dispatched"] + progress["running"]
    return job["num_problems"] - num_open


def progress_bar(console: Console) -> Progress:
    """A bar of finished problems with the live slack and the split in force."""
    return Progress(
        TextColumn("{task.fields[state]:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[clock]}"),
        TextColumn("{task.fields[split]}", style="dim"),
        console=console,
    )


def clock_text(job: Job) -> str:
    """Time left and slack of a live job."""
    parts = []
    if job["time_left_s"] is not None:
        parts.append(f"{max(job['time_left_s'], 0.0):.1f} s left")
    if job["slack_s"] is not None:
        parts.append(f"slack {job['slack_s']:+.1f} s")
    risk = next(filter(None, (job["at_risk"], *(part["at_risk"] for part in job["parts"]))), None)
    if risk is not None:
        parts.append(f"AT RISK ({risk['reason'].replace('_', ' ')})")
    return ", ".join(parts)


def branches_text(first: int | None, most: int | None) -> str:
    """How many branches a plan starts, and has at most where others follow."""
    return f"{first} to {most}" if (most or 0) > (first or 0) else str(first)


def split_text(job: Job) -> str:
    """The split in force."""
    plan = job["plan"]
    if plan is None:
        return "not planned yet"
    return (
        f"{branches_text(plan['num_branches'], plan['max_branches'])} branches"
        f" x draft {plan['num_speculative_tokens']},"
        f" {plan['max_tokens']} tokens"
    )


def accepted(job: Job) -> str:
    """What a submission has led to, in two lines and some for problems that are due sooner."""
    forecast = job["admitted"]
    note = ", below the accuracy asked for" if job["verdict"] == "accepted_degraded" else ""
    if not job["promised"]:
        note = " as a best effort, without a promise"
    return (
        f"{job['id']} accepted{note}:"
        f" {job['num_problems']} problems due {_local(job['deadline_at'])}"
        f"\n  predicted finish {_local(forecast['finish_at'])}"
        f" (95%: {_local(forecast['finish_p95_at'])}), accuracy {forecast['accuracy']:.1%}"
        + "".join(f"\n  {_part_text(part)}" for part in job["parts"][:_PARTS_SHOWN])
        + ("\n  ..." if len(job["parts"]) > _PARTS_SHOWN else "")
    )


def _part_text(part: Part) -> str:
    forecast = part["admitted"]
    return (
        f"{part['num_problems']} of them due {_local(part['deadline_at'])}, 95% finish"
        f" {_local(forecast['finish_p95_at'])}, accuracy {forecast['accuracy']:.1%}"
    )


def summary(job: Job) -> str:
    """What became of a job, in a few lines."""
    progress = job["progress"]
    lines = [
        f"{job['id']} {job['state']}: {progress['answered']} of {job['num_problems']}"
        f" {'answered' if job['solve'] else 'graded'}"
    ]
    for state in ("expired", "failed", "cancelled"):
        if progress[state]:
            lines[0] += f", {progress[state]} {state}"
    if job["degraded"]:
        lines.append(f"  cut short by the deadline: {job['degraded']}")
    if job["finished_at"] is not None:
        lateness_s = (_instant(job["finished_at"]) - _instant(job["deadline_at"])).total_seconds()
        side = "before" if lateness_s <= 0 else "after"
        lines.append(f"  finished {abs(lateness_s):.1f} s {side} the deadline")
    if job["parts"] and job["met_deadline"] is not None:
        num_met = sum(bool(part["met_deadline"]) for part in job["parts"])
        lines.append(f"  deadlines of problems met: {num_met} of {len(job['parts'])}")
    if job["accuracy"] is not None:
        predicted = job["admitted"]["accuracy"]
        lines.append(f"  accuracy {job['accuracy']:.1%} (predicted {predicted:.1%} at submission)")
    if job["plan"] is not None and job["solve"]:
        lines.append(f"  split {split_text(job)}")
    if job["mean_acceptance_length"] is not None:
        lines.append(f"  mean acceptance length {job['mean_acceptance_length']:.2f}")
    if job["error"]:
        lines.append(f"  error: {job['error']}")
    return "\n".join(lines)


def jobs_table(jobs: Iterable[Job]) -> Table:
    """One row per job."""
    table = Table(
        # Ids are there to be copied: whatever the width, they stay in one piece.
        Column("job", min_width=_JOB_ID_CHARS, no_wrap=True),
        Column("name", overflow="fold"),
        Column("model", overflow="fold"),
        Column("state", no_wrap=True),
        Column("answered", overflow="fold"),
        Column("deadline", overflow="fold"),
        Column("slack", overflow="fold"),
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for job in jobs:
        slack_s = job["slack_s"]
        table.add_row(
            job["id"],
            job["name"],
            job["model"],
            job["state"],
            f"{job['progress']['answered']}/{job['num_problems']}",
            _local(job["deadline_at"]),
            "" if slack_s is None else f"{slack_s:+.1f} s",
        )
    return table


def results_table(results: Iterable[Result]) -> Table:
    """One row per problem."""
    table = Table(
        Column("id", overflow="fold"), "state", Column("answer", overflow="fold"),
        "vote", "right", "branches", "degraded",
    )  # fmt: skip
    for result in results:
        share, right = result["vote_share"], result["is_correct"]
        planned = result["num_branches_planned"]
        table.add_row(
            result["id"],
            result["state"],
            result["answer"] or "",
            "" if share is None else f"{share:.0%}",
            "" if right is None else ("yes" if right else "no"),
            f"{result['num_branches_finished']}/{'-' if planned is None else planned}",
            "yes" if result["degraded"] else "",
        )
    return table


def workers_table(workers: Iterable[Worker]) -> Table:
    """One row per worker."""
    table = Table(
        "worker",
        # Names of models are there to be copied, as ids of jobs are.
        Column("model", no_wrap=True),
        "engine", "status", "rows", "running", "draft lengths",
    )  # fmt: skip
    for worker in workers:
        table.add_row(
            worker["name"],
            worker["model"],
            worker["engine"],
            worker["status"],
            str(worker["max_num_seqs"]),
            str(worker["num_running_branches"]),
            " ".join(str(length) for length in worker["draft_lengths"]),
        )
    return table


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _local(text: str) -> str:
    return _instant(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")

"""Live view of several jobs: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from api.client import Client
from api.client.display import branches_text, num_finished
from api.client.shapes import TERMINAL_STATES, Job

POLL_S = 0.5
PLAIN_LINE_EVERY_S = 5.0


def watch_jobs(client: Client, jobs: Sequence[Job], console: Console) -> list[Job]:
    """Follow jobs until all have ended; returns them as they ended, in the same order."""
    current = list(jobs)
    plain_line_at = time.monotonic()
    with Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        bars = [
            progress.add_task(job["name"], total=job["num_problems"], status="") for job in current
        ]
        while True:
            for bar, job in zip(bars, current, strict=True):
                progress.update(bar, completed=num_finished(job), status=status_line(job))
            if not console.is_terminal and time.monotonic() >= plain_line_at:
                plain_line_at += PLAIN_LINE_EVERY_S
                for job in current:
                    counts = f"{num_finished(job)}/{job['num_problems']}"
                    console.print(
                        f"{job['name']:<12} {counts:>9}  {status_line(job)}", soft_wrap=True
                    )
            if all(job["state"] in TERMINAL_STATES for job in current):
                return current
            time.sleep(POLL_S)
            current = [
                job if job["state"] in TERMINAL_STATES else client.job(job["id"]) for job in current
            ]


def status_line(job: Job) -> str:
    """State, split, time left, slack and accuracy so far, in a few words."""
    parts: list[str] = [job["state"]]
    if job["plan"] is not None:
        plan = job["plan"]
        branches = branches_text(plan["num_branches"], plan["max_branches"])
        parts.append(f"{branches} branches, draft {plan['num_speculative_tokens']}")
    if job["time_left_s"] is not None and job["state"] not in TERMINAL_STATES:
        parts.append(f"{job['time_left_s']:.0f} s left")
    if job["slack_s"] is not None and job["state"] not in TERMINAL_STATES:
        parts.append(f"slack {job['slack_s']:+.0f} s")
    if job["accuracy"] is not None:
        parts.append(f"accuracy {job['accuracy']:.0%}")
    return ", ".join(parts)

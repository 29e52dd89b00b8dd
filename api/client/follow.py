"""Follows a job in the terminal to its end."""

import typer

from api.client import display
from api.client.client import Client
from api.client.screen import ExitCode, Screen
from api.client.shapes import Job


def follow(client: Client, screen: Screen, job_id: str) -> Job:
    """Show progress until the job ends, then a summary; returns the job as it ended.

    As JSON: one line per look at the job, the final one last. Ctrl-C stops watching, not the job.
    """
    try:
        if screen.as_json:
            for job in client.watch(job_id):
                screen.write(job)
            return job
        # The first look comes before the bar, so an unknown job draws none.
        job = client.job(job_id)
        with display.progress_bar(screen.console()) as bar:
            task = bar.add_task("", state=job["state"], clock="", split="")
            for job in client.watch(job_id):
                bar.update(
                    task,
                    total=job["num_problems"],
                    completed=display.num_finished(job),
                    state=job["state"],
                    clock=display.clock_text(job),
                    split=display.split_text(job),
                )
        screen.show(job, display.summary)
        return job
    except KeyboardInterrupt:
        screen.remark(
            f"Stopped watching; {job_id} goes on. 'slackline watch {job_id}' takes it up again."
        )
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def outcome(job: Job) -> ExitCode:
    """The exit code that tells how a watched job ended."""
    if job["state"] == "completed":
        return ExitCode.DONE if job["met_deadline"] else ExitCode.MISSED_DEADLINE
    return ExitCode.MISSED_DEADLINE if job["state"] == "expired" else ExitCode.NOT_COMPLETED

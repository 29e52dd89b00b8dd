"""Follows a job in the terminal to its end."""

import typer
from rich.console import Console

from api.client import display, shell
from api.client.client import Client

INTERRUPTED = 130
"""Exit code of a program that SIGINT ended."""


def follow(client: Client, job_id: str, *, as_json: bool) -> None:
    """Show progress until the job ends, then a summary. Ctrl-C stops watching, not the job.

    As JSON: one line per look at the job, the final one last.
    """
    console = Console(stderr=True)
    try:
        if as_json:
            for job in client.watch(job_id):
                shell.write_json(job)
            return
        # The first look comes before the bar, so an unknown job draws none.
        job = client.job(job_id)
        with display.progress_bar(console) as bar:
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
        typer.echo(display.summary(job))
    except KeyboardInterrupt:
        typer.echo(
            f"Stopped watching; {job_id} goes on. 'slackline watch {job_id}' takes it up again.",
            err=True,
        )
        raise typer.Exit(INTERRUPTED) from None

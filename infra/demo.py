"""`slackline demo`: two jobs through the whole system on this machine, and what came out.

Theory of operation: `slackline up` runs as a child on a temporary data folder with a torch and a
replay worker, exactly as a user would start it. Everything else goes through the HTTP API with the
Python client, so what the demo shows is what a client sees.
"""

import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson
from rich.console import Console

from api.client import Client, SlacklineError
from api.client.shapes import Job
from infra.demo_engines import DEMO_DATA_DIR, DEMO_MODEL_DIR
from infra.demo_report import JobSummary, job_summary, job_table
from infra.demo_watch import watch_jobs
from infra.processes import Child, ChildSpec
from infra.services import command_line
from infra.state import DataFolder, Running
from infra.terminal import Terminal

START_TIMEOUT_S = 240.0
"""Includes creating the database, loading the model and measuring this machine."""

SLOW_MACHINE_FACTOR = 1.5
"""Where the deadline is refused, so much of the earliest feasible finish leaves a choice."""

MAX_DEADLINE_S = 150.0
"""The demo is over within three minutes or says that this machine is too slow for it."""


@dataclass(frozen=True, slots=True)
class DemoJob:
    """One job of the demo.

    Attributes:
        engine: Which worker's model it asks for.
        deadline_s: Seconds from its submission, where the machine is fast enough.
    """

    name: str
    file: Path
    engine: str
    deadline_s: float


DEMO_JOBS = (
    DemoJob("arithmetic", DEMO_MODEL_DIR / "arithmetic.jsonl", "torch", 60.0),
    DemoJob("math-500", DEMO_DATA_DIR / "math500_40.jsonl", "replay", 90.0),
)


class DemoError(Exception):
    """Slackline did not start; its own words follow."""


def run_demo(data: Path | None, num_problems: int | None, console: Console) -> list[JobSummary]:
    """Run the demo; returns what became of each job.

    Args:
        data: Folder to keep; a temporary one is removed at the end when None.
        num_problems: Submit only this many problems per job.

    Raises:
        DemoError: Slackline did not start, or refused a job.
    """
    folder = DataFolder(data or Path(tempfile.mkdtemp(prefix="slackline-demo-")))
    folder.log_dir.mkdir(parents=True, exist_ok=True)
    child = Child(_up_spec(folder), folder.log_dir / "up.log")
    try:
        running = _start(child, folder, Terminal(console))
        with Client(running.api_url, running.api_key) as client:
            return _run_jobs(client, num_problems, console)
    finally:
        child.stop()
        if data is None:
            shutil.rmtree(folder.path, ignore_errors=True)


def _up_spec(folder: DataFolder) -> ChildSpec:
    engines = [argument for job in DEMO_JOBS for argument in ("--engine", job.engine)]
    return ChildSpec(
        name="up",
        argv=command_line("up", "--data", str(folder.path), *engines),
        is_ready=lambda: folder.is_locked() and is_serving(folder),
        death_signal=signal.SIGTERM,
        grace_s=60.0,
    )


def is_serving(folder: DataFolder) -> bool:
    """Whether everything on the folder has started."""
    running = folder.read()
    return running is not None and running.is_ready


def _start(child: Child, folder: DataFolder, terminal: Terminal) -> Running:
    """Start everything, showing what it says."""
    terminal.skip_to_end(child.log_path)
    child.start()
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while not child.check_ready():
        terminal.follow("demo", child.log_path)
        if child.returncode is not None or time.monotonic() > give_up_at:
            raise DemoError(f"Slackline did not start:\n{child.log_tail(40)}")
        time.sleep(0.1)
    running = folder.read()
    if running is None:
        raise DemoError(f"Slackline stopped at once:\n{child.log_tail(40)}")
    return running


def _run_jobs(client: Client, num_problems: int | None, console: Console) -> list[JobSummary]:
    """Submit all jobs, follow them to their end and show a table of each."""
    models = {worker["engine"]: worker["model"] for worker in client.workers()}
    submitted = [_submit(client, job, models[job.engine], num_problems) for job in DEMO_JOBS]
    summaries = []
    for job in watch_jobs(client, submitted, console):
        summary = job_summary(job, client.results(job["id"], branches=True))
        start = datetime.fromisoformat(job["created_at"])
        console.print(job_table(job, summary, client.report(group_by="model", start=start)))
        summaries.append(summary)
    return summaries


def _submit(client: Client, job: DemoJob, model: str, num_problems: int | None) -> Job:
    """Submit with the deadline; with a later one where this machine is too slow for it."""
    lines = job.file.read_bytes().splitlines()[:num_problems]
    problems = [orjson.loads(line) for line in lines]
    deadline_s = job.deadline_s
    while True:
        try:
            return client.submit(
                problems, name=job.name, model=model, deadline=f"{deadline_s:.1f}s"
            )
        except SlacklineError as refusal:
            earliest_at = refusal.details.get("earliest_finish_at")
            if earliest_at is None or deadline_s > MAX_DEADLINE_S:
                raise DemoError(f"The job {job.name} was refused: {refusal}") from refusal
            earliest = datetime.fromisoformat(earliest_at) - datetime.now(UTC)
            deadline_s = SLOW_MACHINE_FACTOR * earliest.total_seconds()


def is_well(summary: JobSummary) -> bool:
    """Whether every problem was answered by the deadline."""
    return summary["met_deadline"] and summary["answered"] == summary["problems"]

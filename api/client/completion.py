"""What a shell may complete: ids of jobs and their states.

Completion must be quick and say nothing of its own: without a server, or with one that does not
answer within a moment, there is simply nothing to choose from.
"""

from typing import Annotated, get_args

import typer

from api.client.client import Client
from api.client.errors import SlacklineError
from api.client.shapes import JobState

_TIMEOUT_S = 1.0
_MOST = 50
"""Jobs offered, newest first."""


def job_ids(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of the newest jobs, each with its state and name."""
    try:
        # Options behind the cursor are not read yet; then the environment says where the server is.
        with Client(
            context.params.get("url"),
            context.params.get("api_key"),
            timeout_s=_TIMEOUT_S,
            retry_for_s=0.0,
        ) as client:
            jobs = list(client.jobs(limit=_MOST))
    except SlacklineError:
        return []
    return [
        (job["id"], f"{job['state']} {job['name']}".strip())
        for job in jobs
        if job["id"].startswith(incomplete)
    ]


def job_states(incomplete: str) -> list[str]:
    """States of jobs."""
    return [state for state in get_args(JobState) if state.startswith(incomplete)]


JobId = Annotated[str, typer.Argument(help="Id of the job, job_...", autocompletion=job_ids)]
"""The argument of commands about a job."""

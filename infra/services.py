"""Slackline's own processes as children of the supervisor: API, scheduler and workers."""

import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from db.session import SessionFactory
from infra.processes import ChildSpec
from infra.readiness import api_is_ready, scheduler_leads, worker_is_ready

WORKER_READY_TIMEOUT_S = 900.0
"""A large checkpoint takes minutes to load, and as long again where graphs are compiled."""

API_GRACE_S = 15.0
"""An API that is asked to stop waits for requests for 3 s, for reads and for paperwork under way
for 5 s each, and for threads that are left."""

WORKER_GRACE_S = 15.0
"""A worker that is asked to stop gives its batches back, for 10 s at most, and then signs off."""


def command_line(*arguments: str) -> tuple[str, ...]:
    """The `slackline` command, run by this very Python."""
    return (sys.executable, "-m", "infra.command", *arguments)


def api_child(host: str, port: int, url: str, env: dict[str, str]) -> ChildSpec:
    """The HTTP API."""
    return ChildSpec(
        name="api",
        argv=command_line("api", "--host", host, "--port", str(port)),
        env=env,
        is_ready=lambda: api_is_ready(url),
        grace_s=API_GRACE_S,
    )


def scheduler_child(sessions: SessionFactory, env: dict[str, str]) -> ChildSpec:
    """The scheduler."""
    return ChildSpec(
        name="scheduler",
        argv=command_line("scheduler"),
        env=env,
        is_ready=lambda: scheduler_leads(sessions),
    )


def worker_child(
    sessions: SessionFactory, engine: str, name: str, env: dict[str, str]
) -> ChildSpec:
    """A worker; its start includes loading the model and measuring this machine."""
    planned_at = datetime.now(UTC)
    return ChildSpec(
        name=name,
        argv=command_line("worker", "--name", name, "--engine", engine),
        env=env,
        is_ready=lambda: worker_is_ready(sessions, name, started_after=planned_at),
        ready_timeout_s=WORKER_READY_TIMEOUT_S,
        grace_s=WORKER_GRACE_S,
    )


def worker_names(engines: Sequence[str]) -> list[str]:
    """A name per worker: the engine's, numbered from the second of a kind on."""
    seen: Counter[str] = Counter()
    names = []
    for engine in engines:
        seen[engine] += 1
        number = seen[engine]
        names.append(f"worker-{engine}" + (f"-{number}" if number > 1 else ""))
    return names

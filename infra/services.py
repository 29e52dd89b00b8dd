"""Slackline's own processes as children of the supervisor: API, scheduler and workers."""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from db.session import SessionFactory
from infra.processes import ChildSpec
from infra.readiness import api_is_ready, scheduler_leads, worker_is_ready

ROOT = Path(__file__).parents[1]
DEMO_MODEL_DIR = ROOT / "worker" / "demo_model"
DEMO_DATA_DIR = Path(__file__).parent / "demo_data"
PROFILES_DIR = ROOT / "scheduler" / "profiles"

ENGINE_DEFAULTS: dict[str, dict[str, str]] = {
    "torch": {
        "SLACKLINE_MODEL": "slackline-demo",
        "SLACKLINE_MODEL_DIR": str(DEMO_MODEL_DIR / "target"),
        "SLACKLINE_DRAFT_DIR": str(DEMO_MODEL_DIR / "draft"),
        "SLACKLINE_PROBLEMS": str(DEMO_MODEL_DIR / "arithmetic.jsonl"),
        "SLACKLINE_RECORDINGS": str(DEMO_MODEL_DIR / "recordings.jsonl.gz"),
    },
    "replay": {
        "SLACKLINE_MODEL": "EXAONE-Deep-32B",
        "SLACKLINE_RECORDINGS": str(DEMO_DATA_DIR / "recorded_branches_40.jsonl.gz"),
        "SLACKLINE_PROBLEMS": str(DEMO_DATA_DIR / "math500_40.jsonl"),
        "SLACKLINE_LATENCY_PROFILE": str(PROFILES_DIR / "h100-tp4-qwen3-32b.json"),
        "SLACKLINE_ANSWER_PROFILE": str(PROFILES_DIR / "exaone-deep-32b-math500.json"),
    },
}
"""What a worker of the embedded mode serves, by engine; the user's environment goes first."""


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
    return ChildSpec(
        name=name,
        argv=command_line("worker", "--name", name, "--engine", engine),
        env={**ENGINE_DEFAULTS[engine], **os.environ, **env},
        is_ready=lambda: worker_is_ready(sessions, name),
        ready_timeout_s=180.0,
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

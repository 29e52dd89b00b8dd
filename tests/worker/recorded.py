"""A recorded problem set and a worker that replays it, for the tests of the worker."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from db import keys
from db.batches import create_batch
from db.jobs import insert_job
from db.models import Branch, Problem, Worker
from db.problems import NewProblem, insert_problems
from db.session import SessionFactory, transaction
from infra.processes import bound
from scheduler.core.decisions import Admitted
from tests.factories import MODEL, forecast, latency_profile, new_job, plan

PROGRAM = """
from worker.main import run
from worker.settings import WorkerSettings
raise SystemExit(run(WorkerSettings()))
"""

Samples = Sequence[tuple[str, int]]
"""Answer and completion tokens of each recorded branch of a problem."""


def prompt_of(number: int) -> str:
    """Prompt of problem `number`."""
    return f"What is the answer of problem {number}?"


def write_recordings(folder: Path, samples: Sequence[Samples]) -> Path:
    """Write recordings, their problem set and a latency profile; returns the recordings."""
    rows, problems = [], []
    for number, branches in enumerate(samples):
        answers = sorted({answer for answer, _ in branches})
        rows.append(
            {
                "dataset": "made up",
                "model": MODEL,
                "problem_num": number,
                "answers": answers,
                "sample_answer": [answers.index(answer) for answer, _ in branches],
                "sample_tokens": [tokens for _, tokens in branches],
            }
        )
        problems.append({"id": f"p{number}", "prompt": prompt_of(number)})
    path = folder / "recorded_branches.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    problem_lines = "".join(json.dumps(problem) + "\n" for problem in problems)
    (folder / "problems.jsonl").write_text(problem_lines)
    (folder / "latency.json").write_text(json.dumps(latency_profile().to_dict()))
    return path


def store_job(
    sessions: SessionFactory,
    num_problems: int,
    *,
    deadline_s: float = 60.0,
    reference_answer: str | None = "7",
    first_problem: int = 0,
) -> str:
    """Store a job on recorded problems that is due `deadline_s` from now; returns its id."""
    now = datetime.now(UTC)
    with transaction(sessions) as session:
        keys.ensure_local_tenant(session, now=now)
        job = new_job(
            num_problems=num_problems,
            created_at=now,
            deadline_at=now + timedelta(seconds=deadline_s),
        )
        insert_job(session, job, Admitted(plan=plan(), forecast=forecast(), degraded=False))
        problems = [
            NewProblem(f"p{number}", prompt_of(number), reference_answer)
            for number in range(first_problem, first_problem + num_problems)
        ]
        insert_problems(session, job.id, problems)
    return job.id


def plan_batch(
    sessions: SessionFactory, job_id: str, worker_name: str, num_problems: int, **plan_of: Any
) -> int:
    """Give the job's next problems to a registered worker; returns the batch id."""
    with transaction(sessions) as session:
        batch_id = create_batch(
            session,
            job_id=job_id,
            worker_name=worker_name,
            plan=plan(**plan_of),
            num_problems=num_problems,
            now=datetime.now(UTC),
        )
    assert batch_id is not None
    return batch_id


def start_worker(recordings: Path, name: str, **options: object) -> subprocess.Popen[bytes]:
    """Start a worker process on the replay engine; options are settings of the worker.

    `database_url` and `redis_url` are needed.
    """
    env = {
        **os.environ,
        "DATABASE_URL": str(options.pop("database_url")),
        "REDIS_URL": str(options.pop("redis_url")),
        "SLACKLINE_NAME": name,
        "SLACKLINE_ENGINE": "replay",
        "SLACKLINE_RECORDINGS": str(recordings),
        "SLACKLINE_LATENCY_PROFILE": str(recordings.with_name("latency.json")),
        "SLACKLINE_MODEL": MODEL,
        **{f"SLACKLINE_{key.upper()}": str(value) for key, value in options.items()},
    }
    return subprocess.Popen(bound([sys.executable, "-c", PROGRAM], signal.SIGKILL), env=env)


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Wait for a condition; fails the test when it does not come true in time."""
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up_at, "the condition did not come true in time"
        time.sleep(0.05)


def is_registered(sessions: SessionFactory, name: str, *, after: datetime | None = None) -> bool:
    """Whether a live worker has the name, started after the instant."""
    with transaction(sessions) as session:
        worker = session.get(Worker, name)
        if worker is None or worker.stopped_at is not None:
            return False
        return after is None or worker.started_at > after


def problems_of(sessions: SessionFactory, job_id: str) -> list[Problem]:
    """Problems of the job in order."""
    with transaction(sessions) as session:
        statement = select(Problem).where(Problem.job_id == job_id).order_by(Problem.position)
        return list(session.scalars(statement))


def ends_of(branches: Sequence[Branch]) -> dict[tuple[int, int], datetime]:
    """When each branch of a problem ended."""
    return {(branch.problem_id, branch.branch_index): branch.finished_at for branch in branches}


def branches_of(sessions: SessionFactory, job_id: str, *reasons: str) -> list[Branch]:
    """Branches of the job that ended for one of the reasons, in order of finish."""
    with transaction(sessions) as session:
        statement = select(Branch).where(Branch.job_id == job_id).order_by(Branch.finished_at)
        if reasons:
            statement = statement.where(Branch.finish_reason.in_(reasons))
        return list(session.scalars(statement))


def num_open(sessions: SessionFactory, job_id: str) -> int:
    """Problems of the job without an outcome."""
    with transaction(sessions) as session:
        statement = select(func.count()).where(
            Problem.job_id == job_id, Problem.finished_at.is_(None)
        )
        return session.scalar(statement) or 0

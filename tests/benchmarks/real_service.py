"""The service for the comparison of policies: real servers, API and worker; the policy is ours."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import isnan
from pathlib import Path

from api.client import Client
from api.client.shapes import Problem
from api.client.transport import DEFAULT_API_KEY
from api.new_jobs import new_job, view_of
from api.prompts import prompt_tokens
from api.schemas.submission import SetOptions
from db import keys, migrate, wake
from db.admission import hold_admission
from db.jobs import insert_job
from db.problems import NewProblem, insert_problems
from db.session import SessionFactory, connect, session_factory, transaction
from db.snapshot import read_snapshot
from infra.servers import Postgres, Redis, free_port
from infra.services import api_child, worker_child
from infra.supervisor import Supervisor
from scheduler.config import SchedulerSettings
from scheduler.core.config import SchedulerConfig
from scheduler.core.decide import decide
from scheduler.core.decisions import Admitted, Decisions
from scheduler.core.plan import Forecast
from scheduler.core.simulation.policy import Policy, Production
from scheduler.core.snapshot import Snapshot
from scheduler.loop import serve
from scheduler.tick import Decide
from tests.stack import open_folder


@dataclass(frozen=True)
class Service:
    """Everything but a scheduler, which `scheduling` runs in a thread."""

    client: Client
    sessions: SessionFactory
    settings: SchedulerSettings

    def snapshot(self) -> Snapshot:
        """What the next tick would see."""
        with transaction(self.sessions) as session:
            return read_snapshot(session, datetime.now(UTC))

    @contextmanager
    def scheduling(self, policy: Policy) -> Iterator[None]:
        """Schedule with this policy until the end of the block."""
        stop = threading.Event()
        thread = threading.Thread(
            target=serve, args=(self.settings, stop), kwargs={"policy": deciding(policy)}
        )
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def insert(
        self,
        policy: Policy,
        options: SetOptions,
        problems: Sequence[Problem],
        deadline_at: datetime,
    ) -> str:
        """Store a job as the API does, but admitted by this policy, which refuses nobody."""
        now = datetime.now(UTC)
        num_chars = sum(len(problem["prompt"]) for problem in problems)
        with transaction(self.sessions) as session:
            hold_admission(session)
            snapshot = read_snapshot(session, now)
            job = new_job(
                options,
                tenant_id=keys.ensure_local_tenant(session, now=now),
                due_at=deadline_at,
                num_problems=len(problems),
                mean_prompt_tokens=prompt_tokens(snapshot, options, num_chars / len(problems)),
                now=now,
            )
            verdict = policy.admit(snapshot, view_of(job, snapshot), self.settings.scheduler)
            assert isinstance(verdict, Admitted)
            insert_job(session, job, promised(verdict, (deadline_at - now).total_seconds()))
            insert_problems(
                session,
                job.id,
                (NewProblem(p["id"], p["prompt"], p["reference_answer"]) for p in problems),
            )
            wake.notify(session)
        return job.id


def promised(admitted: Admitted, time_s: float) -> Admitted:
    """A policy that promises nothing promises the deadline; the store wants a promise."""
    if not isnan(admitted.forecast.finish_p50_s):
        return admitted
    return replace(admitted, forecast=Forecast(time_s, time_s, 0.0, 0.0))


def deciding(policy: Policy) -> Decide:
    """The policy's tick; deadlines, lost batches and lost messages are seen to as in production."""
    if isinstance(policy, Production):
        return policy.decide

    def tick(snapshot: Snapshot, config: SchedulerConfig) -> Decisions:
        due = tuple(job for job in snapshot.jobs if job.deadline_at <= snapshot.now)
        care = decide(replace(snapshot, jobs=due), config)
        return replace(care, new_batches=policy.decide(snapshot, config).new_batches)

    return tick


@contextmanager
def running_service() -> Iterator[Service]:
    """Start Postgres, Redis, the API and a torch worker with the demo model."""
    with open_folder() as folder, ExitStack() as closing:
        postgres = Postgres(folder / "postgres")
        closing.callback(postgres.close)
        redis = Redis(folder / "redis", free_port())
        supervisor = Supervisor(logs(folder), lambda name, line: print(f"{name:12} {line}"))
        closing.callback(supervisor.stop)
        supervisor.start([postgres.child(), redis.child()])
        migrate.upgrade(postgres.url)
        engine = connect(postgres.url)
        closing.callback(engine.dispose)
        sessions = session_factory(engine)
        env = {"DATABASE_URL": postgres.url, "REDIS_URL": redis.url}
        host, port = "127.0.0.1", free_port()
        url = f"http://{host}:{port}"
        api_env = {**env, "SLACKLINE_LOCAL_KEY": DEFAULT_API_KEY}
        worker_env = {**env, "SLACKLINE_DATA_DIR": str(folder)}
        supervisor.start(
            [
                api_child(host, port, url, api_env),
                worker_child(sessions, "torch", "worker-torch", worker_env),
            ]
        )
        client = closing.enter_context(Client(url, DEFAULT_API_KEY))
        settings = SchedulerSettings(database_url=postgres.url, redis_url=redis.url)
        yield Service(client, sessions, settings)


def logs(folder: Path) -> Path:
    """A folder for the logs of the processes."""
    path = folder / "logs"
    path.mkdir()
    return path


def wait_idle(service: Service, timeout_s: float = 30.0) -> None:
    """Wait until no batch is live, so that a run does not disturb the next."""
    give_up_at = time.monotonic() + timeout_s
    while service.snapshot().batches:
        if time.monotonic() > give_up_at:
            raise TimeoutError("a batch is still live")
        time.sleep(0.2)

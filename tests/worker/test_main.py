"""A real worker process on real servers: solves, dies, comes back, and loses nothing."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import redis

from db.batches import lose_batches
from db.models import Batch, Worker
from db.session import SessionFactory, transaction
from infra.demo_engines import DEMO_MODEL_DIR
from infra.processes import bound
from infra.servers import free_port, redis_server_binary
from scheduler.dispatch import celery_sender
from tests.stack import slackline
from tests.worker.recorded import (
    branches_of,
    ends_of,
    is_registered,
    num_open,
    plan_batch,
    problems_of,
    start_worker,
    store_job,
    wait_until,
    write_recordings,
)

NAME = "w-replay"

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(
    tmp_path: Path, database_url: str, redis_url: str, sessions: SessionFactory
) -> Iterator[Start]:
    """Starts workers and waits until they are registered; kills what is left after the test."""
    # 40 problems, each with 60 branches of 30 to 149 tokens: 0.3 to 1.5 seconds.
    samples = [[("7" if i % 3 else "8", 30 + 2 * i) for i in range(60)] for _ in range(40)]
    recordings = write_recordings(tmp_path, samples)
    started: list[subprocess.Popen[bytes]] = []

    def start_one(name: str = NAME, **options: object) -> subprocess.Popen[bytes]:
        before = datetime.now(UTC)
        urls = {"database_url": database_url, "redis_url": redis_url}
        process = start_worker(recordings, name, **(urls | options))
        started.append(process)
        wait_until(lambda: is_registered(sessions, name, after=before))
        return process

    yield start_one
    for process in started:
        process.kill()
        process.wait()


def start_redis(port: int, folder: Path) -> subprocess.Popen[bytes]:
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    argv = bound([str(redis_server_binary()), *options], signal.SIGKILL)
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)

    def answers() -> bool:
        try:
            with redis.Redis(port=port) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    wait_until(answers)
    return process


def test_a_sent_batch_is_solved_and_a_second_message_is_harmless(
    start: Start, sessions: SessionFactory, redis_url: str
) -> None:
    worker = start()
    job_id = store_job(sessions, 10)
    batch_id = plan_batch(sessions, job_id, NAME, 10, num_branches=8)
    send = celery_sender(redis_url)
    assert send(NAME, batch_id)
    assert send(NAME, batch_id)
    assert send(NAME, 999_999)
    wait_until(lambda: num_open(sessions, job_id) == 0)
    problems = problems_of(sessions, job_id)
    assert {(p.state, p.degraded) for p in problems} == {("answered", False)}
    for problem in problems:
        finished = branches_of(sessions, job_id, "stop", "length")
        votes = [b for b in finished if b.problem_id == problem.id]
        assert problem.num_branches_finished == len(votes)
        assert problem.is_correct == (problem.answer == "7")
        winning = [b for b in votes if b.answer == problem.answer]
        assert problem.vote_share == pytest.approx(len(winning) / len(votes))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(15) == 0
    with transaction(sessions) as session:
        stopped = session.get_one(Worker, NAME)
        assert stopped.stopped_at is not None
        assert session.get_one(Batch, batch_id).state == "done"


def test_after_a_kill_the_finished_branches_are_kept_and_none_runs_twice(
    start: Start, sessions: SessionFactory, redis_url: str
) -> None:
    worker = start(max_num_seqs=8)
    job_id = store_job(sessions, 20)
    send = celery_sender(redis_url)
    first = plan_batch(sessions, job_id, NAME, 20, num_branches=5)
    assert send(NAME, first)
    wait_until(lambda: len(branches_of(sessions, job_id, "stop")) >= 15)
    children = psutil.Process(worker.pid).children(recursive=True)
    worker.kill()
    worker.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    kept = ends_of(branches_of(sessions, job_id, "stop"))
    assert num_open(sessions, job_id) > 0
    with transaction(sessions) as session:
        assert lose_batches(session, [first], now=datetime.now(UTC)) == [first]
    start(max_num_seqs=64)
    second = plan_batch(sessions, job_id, NAME, 20, num_branches=5)
    assert send(NAME, second)
    wait_until(lambda: num_open(sessions, job_id) == 0)
    branches = branches_of(sessions, job_id, "stop")
    indexes = [(b.problem_id, b.branch_index) for b in branches]
    assert len(set(indexes)) == len(indexes)
    assert ends_of(branches).items() >= kept.items()
    finished = branches_of(sessions, job_id, "stop", "length")
    for problem in problems_of(sessions, job_id):
        assert problem.num_branches_finished == sum(b.problem_id == problem.id for b in finished)


def test_a_batch_sent_after_redis_was_emptied_or_restarted_is_solved(
    start: Start, sessions: SessionFactory, tmp_path: Path
) -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    broker = start_redis(port, tmp_path)
    start(redis_url=url)
    send = celery_sender(url)
    job_id = store_job(sessions, 12)

    def solve(expected_open: int) -> None:
        batch_id = plan_batch(sessions, job_id, NAME, 4)

        def solved() -> bool:
            # The scheduler, too, sends an unclaimed batch again.
            if num_open(sessions, job_id) > expected_open:
                send(NAME, batch_id)
                time.sleep(0.5)
            return num_open(sessions, job_id) == expected_open

        wait_until(solved, timeout_s=20)

    solve(8)
    with redis.Redis.from_url(url) as client:
        client.flushall()
    solve(4)
    broker.kill()
    broker.wait()
    # Long enough for a growing backoff to show.
    time.sleep(8.0)
    broker = start_redis(port, tmp_path)
    try:
        restarted = time.monotonic()
        solve(0)
        assert time.monotonic() - restarted < 5
    finally:
        broker.kill()
        broker.wait()


def test_sigterm_gives_running_batches_back_with_their_finished_branches(
    start: Start, sessions: SessionFactory, redis_url: str
) -> None:
    worker = start(max_num_seqs=4)
    job_id = store_job(sessions, 20)
    batch_id = plan_batch(sessions, job_id, NAME, 20, num_branches=5)
    assert celery_sender(redis_url)(NAME, batch_id)
    wait_until(lambda: len(branches_of(sessions, job_id, "stop")) >= 5)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    with transaction(sessions) as session:
        assert session.get_one(Batch, batch_id).state == "lost"
    assert {p.state for p in problems_of(sessions, job_id)} <= {"pending", "answered"}
    assert num_open(sessions, job_id) > 0


def test_sigterm_ends_a_worker_that_is_still_measuring_its_machine(tmp_path: Path) -> None:
    env = {
        **os.environ,
        "DATABASE_URL": "postgresql:///nothing",
        "REDIS_URL": "redis:///",
        "SLACKLINE_NAME": NAME,
        "SLACKLINE_MODEL_DIR": str(DEMO_MODEL_DIR / "target"),
        "SLACKLINE_DRAFT_DIR": str(DEMO_MODEL_DIR / "draft"),
        "SLACKLINE_DATA_DIR": str(tmp_path),
    }
    argv = bound(slackline("worker", "--name", NAME), signal.SIGKILL)
    with subprocess.Popen(argv, env=env, stderr=subprocess.PIPE) as worker:
        assert worker.stderr is not None
        while b"profile.measuring" not in worker.stderr.readline():
            assert worker.poll() is None
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(15) == 0
        assert b"profile.measured" not in worker.stderr.read()
    assert list(tmp_path.rglob("*.json")) == []


def test_a_replaced_worker_leaves(start: Start, sessions: SessionFactory) -> None:
    first = start()
    start()
    assert first.wait(10) == 3
    assert is_registered(sessions, NAME)


def test_a_worker_whose_engine_dies_while_it_is_measured_is_to_be_started_anew(
    tmp_path: Path,
) -> None:
    nowhere = {"DATABASE_URL": "postgresql://localhost:1/none", "REDIS_URL": "redis://localhost:1"}
    # A folder of its own, so that the machine is measured whatever was measured before.
    env = {**os.environ, **nowhere, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    worker = subprocess.Popen(slackline("worker", "--name", "w-torch"), env=env)
    try:
        wait_until(lambda: bool(decoding_children(worker.pid)), timeout_s=90.0)
        for child in decoding_children(worker.pid):
            child.kill()
        assert worker.wait(timeout=30) == 4
    finally:
        worker.kill()
        worker.wait()


def decoding_children(pid: int) -> list[psutil.Process]:
    """Children of a worker that are busy: with loading the engine, and then with its branches."""
    return [
        child
        for child in psutil.Process(pid).children()
        if child.is_running() and child.cpu_times().user > 4
    ]

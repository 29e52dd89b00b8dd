"""Workers, rescue, expiry and cancels at once: no deadlock, no lost or doubled branch."""

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event

from sqlalchemy import func, select

from db.batches import create_batch, finish_batch, lose_batches
from db.branches import insert_branches
from db.claims import claim_batch
from db.deadlines import expire_jobs
from db.endings import cancelling_jobs, finish_cancelled, finish_jobs
from db.jobs import request_cancel
from db.keys import LOCAL_TENANT
from db.leases import renew_leases
from db.models import Batch, Branch, Job, Problem
from db.problems import answer_problems
from db.progress import job_progress
from db.session import SessionFactory
from scheduler.core.states import JOB_TRANSITIONS, terminal_states
from tests.factories import NOW, after, branch_row, plan, problem_answer, stored_job, stored_worker

NUM_WORKERS = 4
NUM_JOBS = 6


def _plan_batches(sessions: SessionFactory, job_ids: list[str], rng: random.Random) -> None:
    with sessions.begin() as session:
        for job_id in job_ids:
            create_batch(
                session,
                job_id=job_id,
                worker_name="w1",
                plan=plan(num_branches=2),
                num_problems=rng.randint(1, 4),
                now=NOW,
            )


def _work(sessions: SessionFactory, owner: str, rng: random.Random) -> None:
    """Claim a batch, write each problem's branches and answer, stop when the lease is lost."""
    with sessions() as session:
        planned = session.scalars(select(Batch.id).where(Batch.state == "planned")).all()
    if not planned:
        return
    with sessions.begin() as session:
        claimed = claim_batch(
            session, batch_id=rng.choice(planned), owner=owner, lease_s=4.0, now=NOW
        )
    if claimed is None:
        return
    batch_id, epoch = claimed.id, claimed.epoch
    for problem in rng.sample(claimed.problems, len(claimed.problems)):
        missing = {0, 1} - {branch.branch_index for branch in problem.finished}
        rows = [branch_row(problem.id, index) for index in missing]
        with sessions.begin() as session:
            held = insert_branches(session, batch_id=batch_id, epoch=epoch, rows=rows)
        with sessions.begin() as session:
            answers = [problem_answer(problem.id, num_branches_finished=2)]
            held = held and answer_problems(
                session, batch_id=batch_id, epoch=epoch, answers=answers
            )
        if not held:
            return
    with sessions.begin() as session:
        finish_batch(session, batch_id=batch_id, epoch=epoch, now=after(1))


def _rescue(sessions: SessionFactory, rng: random.Random) -> None:
    with sessions() as session:
        live = session.scalars(select(Batch.id).where(Batch.finished_at.is_(None))).all()
    with sessions.begin() as session:
        lose_batches(session, rng.sample(live, len(live) // 3), now=after(1))


def _end(sessions: SessionFactory, job_ids: list[str]) -> None:
    """Let the deadline strike one job and a cancel another."""
    with sessions.begin() as session:
        expire_jobs(session, job_ids[:1], now=after(60))
    with sessions.begin() as session:
        request_cancel(session, LOCAL_TENANT, job_ids[1], now=after(1))
    with sessions() as session:
        cancelling = cancelling_jobs(session)
    for job_id in cancelling:
        with sessions.begin() as session:
            finish_cancelled(session, job_id, now=after(1))


def test_workers_and_scheduler_never_deadlock_and_every_job_ends(
    sessions: SessionFactory,
) -> None:
    with sessions.begin() as session:
        job_ids = sorted(stored_job(session, num_problems=12) for _ in range(NUM_JOBS))
        stored_worker(session)
    stop = Event()

    def repeat(act: Callable[[random.Random], None], seed: int) -> None:
        rng = random.Random(seed)
        while not stop.is_set():
            act(rng)

    actors: list[Callable[[random.Random], None]] = [
        lambda rng: _plan_batches(sessions, job_ids, rng),
        lambda rng: _rescue(sessions, rng),
        *(
            lambda rng, owner=f"w1-{number}": _work(sessions, owner, rng)
            for number in range(NUM_WORKERS)
        ),
    ]

    def renew(rng: random.Random) -> None:
        with sessions.begin() as session:
            owner = f"w1-{rng.randrange(NUM_WORKERS)}"
            held = list(session.scalars(select(Batch.id).where(Batch.lease_owner == owner)))
            renew_leases(session, held, owner=owner, lease_s=4.0, now=after(1))

    actors.append(renew)
    with ThreadPoolExecutor(len(actors)) as threads:
        running = [threads.submit(repeat, act, seed) for seed, act in enumerate(actors)]
        time.sleep(1.0)
        _end(sessions, job_ids)
        give_up_at = time.monotonic() + 60.0
        ended: set[str] = set()
        while time.monotonic() < give_up_at and len(ended) < NUM_JOBS:
            assert not any(future.done() for future in running)
            with sessions.begin() as session:
                finish_jobs(session, now=after(60))
                finished = select(Job.id).where(Job.finished_at.is_not(None))
                ended = set(session.scalars(finished))
            time.sleep(0.02)
        stop.set()
        for future in running:
            future.result(timeout=30)
    assert ended == set(job_ids)
    with sessions() as session:
        states = set(session.scalars(select(Job.state)))
        assert states <= {state.value for state in terminal_states(JOB_TRANSITIONS)}
        for job_id in job_ids[2:]:
            assert job_progress(session, job_id).answered == 12
            stored = select(func.count()).where(Branch.job_id == job_id)
            assert session.scalar(stored) == 24
        open_problems = select(func.count()).where(Problem.finished_at.is_(None))
        assert session.scalar(open_problems) == 0

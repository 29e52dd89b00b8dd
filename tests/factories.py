"""Values for tests: plain functions, valid by default, every field may be overridden."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from sqlalchemy.orm import Session

from db import keys
from db.batches import create_batch
from db.branches import BranchRow
from db.claims import ClaimedBatch, claim_batch
from db.jobs import NewJob, insert_job
from db.models import Job, Worker
from db.problems import NewProblem, ProblemAnswer, insert_problems
from db.workers import register_worker
from scheduler.core.accuracy import AnswerProfile
from scheduler.core.decisions import Admitted
from scheduler.core.latency import LatencyProfile
from scheduler.core.plan import EngineSpec, Forecast, Plan
from scheduler.core.states import ProblemState

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
"""The instant at which tests begin."""

MODEL = "demo"

_numbers = count(1)


def after(seconds: float) -> datetime:
    """The instant this many seconds after `NOW`."""
    return NOW + timedelta(seconds=seconds)


def engine_spec(**overrides: Any) -> EngineSpec:
    """A small engine."""
    spec = EngineSpec(
        engine="replay",
        model=MODEL,
        max_num_seqs=32,
        max_model_len=512,
        draft_lengths=(0, 2, 4),
        kv_capacity_tokens=32 * 512,
    )
    return replace(spec, **overrides)


def latency_profile(**overrides: Any) -> LatencyProfile:
    """Ten milliseconds per step, a draft at a tenth of that."""
    profile = LatencyProfile(
        engine="replay",
        model=MODEL,
        device="test",
        method="made up for tests",
        measured_at="2026-01-01",
        base_s=0.01,
        token_slopes_s=(0.0001,),
        draft_base_s=0.001,
        acceptance=(0.8, 0.7, 0.6, 0.5),
    )
    return replace(profile, **overrides)


def answer_profile(**overrides: Any) -> AnswerProfile:
    """The cold start."""
    return replace(AnswerProfile.uninformed(MODEL), **overrides)


def plan(**overrides: Any) -> Plan:
    """Four branches without speculation, waves of eight problems."""
    return replace(
        Plan(num_branches=4, num_speculative_tokens=0, max_tokens=128, wave_size=8), **overrides
    )


def forecast(**overrides: Any) -> Forecast:
    """Done in ten seconds, three of four right."""
    return replace(
        Forecast(finish_p50_s=10.0, finish_p95_s=14.0, accuracy=0.75, row_seconds=40.0),
        **overrides,
    )


def new_job(**overrides: Any) -> NewJob:
    """A job of the local tenant that is due in a minute."""
    job = NewJob(
        id=f"job_{next(_numbers):032x}",
        tenant_id=keys.LOCAL_TENANT,
        name="a set",
        model=MODEL,
        deadline_at=after(60),
        weight=1.0,
        max_branches=16,
        max_tokens=None,
        min_accuracy=None,
        temperature=0.8,
        top_p=1.0,
        num_problems=4,
        mean_prompt_tokens=40.0,
        created_at=NOW,
    )
    return replace(job, **overrides)


def new_problems(num_problems: int, *, reference_answer: str | None = "7") -> list[NewProblem]:
    """Distinct problems with one reference answer."""
    return [
        NewProblem(key=f"p{number}", prompt=f"3+4+0*{number}=", reference_answer=reference_answer)
        for number in range(num_problems)
    ]


def stored_job(session: Session, *, reference_answer: str | None = "7", **overrides: Any) -> str:
    """Store a job with its problems and the local tenant; returns the job's id."""
    keys.ensure_local_tenant(session, now=NOW)
    job = new_job(**overrides)
    insert_job(session, job, Admitted(plan=plan(), forecast=forecast(), degraded=False))
    problems = new_problems(job.num_problems, reference_answer=reference_answer)
    insert_problems(session, job.id, problems)
    return job.id


def stored_worker(
    session: Session,
    name: str = "w1",
    *,
    incarnation: str = "w1-1",
    now: datetime = NOW,
    **spec: Any,
) -> str:
    """Register a worker; returns its name."""
    register_worker(
        session,
        name=name,
        incarnation=incarnation,
        spec=engine_spec(**spec),
        latency=latency_profile(),
        answers=answer_profile(),
        now=now,
    )
    return name


def stored_batch(
    session: Session, job_id: str, *, num_problems: int = 8, now: datetime = NOW, **overrides: Any
) -> int:
    """Plan a batch of the job for the worker `w1`, registered unless it serves the model."""
    model, worker = session.get_one(Job, job_id).model, session.get(Worker, "w1")
    if worker is None or worker.model != model:
        stored_worker(session, now=now, model=model)
    batch_id = create_batch(
        session,
        job_id=job_id,
        worker_name="w1",
        plan=plan(**overrides),
        num_problems=num_problems,
        now=now,
    )
    assert batch_id is not None
    return batch_id


def claimed_batch(
    session: Session, job_id: str, *, num_problems: int = 8, now: datetime = NOW
) -> ClaimedBatch:
    """Plan and claim a batch of the job for `w1-1`, with a lease of four seconds."""
    batch_id = stored_batch(session, job_id, num_problems=num_problems, now=now)
    claimed = claim_batch(session, batch_id=batch_id, owner="w1-1", lease_s=4.0, now=now)
    assert claimed is not None
    return claimed


def branch_row(problem_id: int, branch_index: int = 0, **overrides: Any) -> BranchRow:
    """A branch that stopped by itself after half a second with the right answer."""
    row = BranchRow(
        problem_id=problem_id,
        branch_index=branch_index,
        num_speculative_tokens=2,
        finish_reason="stop",
        text="3+4=7",
        answer="7",
        vote_class=0,
        is_correct=True,
        queued_at=NOW,
        started_at=after(0.1),
        finished_at=after(0.5),
        queue_time_s=0.1,
        ttft_s=0.2,
        decode_time_s=0.3,
        prompt_tokens=10,
        completion_tokens=31,
        num_steps=15,
        drafted_by_position=(15, 15),
        accepted_by_position=(10, 5),
    )
    return replace(row, **overrides)


def unfinished_row(problem_id: int, branch_index: int = 0, **overrides: Any) -> BranchRow:
    """A branch that was aborted before it gave an answer."""
    values = {"finish_reason": "abort", "answer": None, "vote_class": None, "is_correct": None}
    return branch_row(problem_id, branch_index, **(values | overrides))


def problem_answer(problem_id: int, **overrides: Any) -> ProblemAnswer:
    """A right answer with every vote of four branches."""
    answer = ProblemAnswer(
        problem_id=problem_id,
        state=ProblemState.ANSWERED,
        answer="7",
        vote_share=1.0,
        is_correct=True,
        degraded=False,
        num_branches_finished=4,
        error=None,
        finished_at=after(1),
    )
    return replace(answer, **overrides)


def votes(problem_id: int, classes: Sequence[int | None]) -> list[BranchRow]:
    """Branches of a problem that finished in this order, one second apart, class 0 being right."""
    return [
        branch_row(
            problem_id,
            index,
            answer=None if vote_class is None else f"answer {vote_class}",
            vote_class=vote_class,
            is_correct=None if vote_class is None else vote_class == 0,
            finished_at=after(index + 1),
        )
        for index, vote_class in enumerate(classes)
    ]

"""Turns stored rows into the shapes that clients see."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy.orm import Session

from api.grade_views import grading_view, own_grade, own_reason, submission_view
from api.plan_views import admitted_view, part_view, plan_view, predicted_of_all, risk_view
from api.schemas.forecasts import ForecastBasisOut
from api.schemas.jobs import JobOut, ProgressOut
from api.schemas.reports import WorkerOut
from api.schemas.results import BranchOut, ResultOut
from db.models import Branch, Job, JobPart, Submission, Worker
from db.parts import parts_of
from db.progress import JobProgress, jobs_progress
from db.results import ProblemResult
from db.traces import mean_acceptance_lengths
from scheduler.core.branch_options import BranchOptions
from scheduler.core.decisions import Verdict
from scheduler.core.states import JobState


def job_views(session: Session, jobs: Sequence[Job], now: datetime) -> list[JobOut]:
    """Jobs with their counts, in as many statements however many they are."""
    ids = [job.id for job in jobs]
    progress = jobs_progress(session, ids)
    acceptance = mean_acceptance_lengths(session, ids)
    parts = parts_of(session, ids)
    return [
        _job_view(
            job,
            parts.get(job.id, ()),
            progress.get(job.id, JobProgress()),
            acceptance.get(job.id),
            now,
        )
        for job in jobs
    ]


def _job_view(
    job: Job,
    parts: Sequence[JobPart],
    progress: JobProgress,
    mean_acceptance_length: float | None,
    now: datetime,
) -> JobOut:
    is_live = job.finished_at is None
    return JobOut(
        id=job.id,
        name=job.name,
        model=job.model,
        family=job.family,
        state=JobState(job.state),
        created_at=job.created_at,
        deadline_at=job.deadline_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        verdict=Verdict(job.verdict),
        promised=job.is_promised,
        met_deadline=job.met_deadline,
        retry_of=job.retry_of,
        num_problems=job.num_problems,
        progress=ProgressOut.model_validate(asdict(progress)),
        degraded=progress.degraded,
        max_branches=job.max_branches,
        max_tokens=job.max_tokens,
        min_accuracy=job.min_accuracy,
        temperature=job.temperature,
        top_p=job.top_p,
        **BranchOptions.from_dict(job.branch_options).to_dict(),
        grading=grading_view(job.grading),
        solve=job.solve,
        weight=job.weight,
        plan=plan_view(job),
        parts=[part_view(job, part) for part in parts],
        predicted=predicted_of_all(job, parts),
        admitted=admitted_view(job),
        forecast_basis=(
            None
            if job.forecast_basis is None
            else ForecastBasisOut.model_validate(job.forecast_basis)
        ),
        accuracy=progress.accuracy,
        at_risk=risk_view(job) if is_live else None,
        slack_s=slack_s(job, now),
        time_left_s=(job.deadline_at - now).total_seconds() if is_live else None,
        mean_acceptance_length=mean_acceptance_length,
        error=job.error,
    )


def slack_s(job: Job, now: datetime) -> float | None:
    """Time left less the predicted remaining run time; None without a forecast or at the end."""
    if job.finished_at is not None or job.predicted_finish_at is None:
        return None
    return (job.deadline_at - max(job.predicted_finish_at, now)).total_seconds()


def result_view(
    result: ProblemResult,
    branches: Sequence[Branch] | None,
    submissions: Sequence[Submission] | None = None,
) -> ResultOut:
    """One problem's outcome; `branches` and `submissions` None leave these out."""
    return ResultOut.model_validate(
        {
            "id": result.key,
            "position": result.position,
            "state": result.state,
            "answer": result.answer,
            "vote_share": result.vote_share,
            "is_correct": result.is_correct,
            "grade": own_grade(result.is_correct),
            "grade_reason": own_reason(result.is_correct, result.grade_reason),
            "degraded": result.degraded,
            "num_branches_finished": result.num_branches_finished,
            "num_branches_planned": result.num_branches,
            "error": result.error,
            "deadline_at": result.deadline_at,
            "finished_at": result.finished_at,
            "branches": None if branches is None else [_branch_view(b) for b in branches],
            "submissions": (
                None
                if submissions is None
                else [submission_view(s, result.state) for s in submissions]
            ),
        }
    )


def _branch_view(branch: Branch) -> BranchOut:
    tpot_s = None
    if branch.decode_time_s is not None and branch.completion_tokens > 1:
        tpot_s = branch.decode_time_s / (branch.completion_tokens - 1)
    return BranchOut(
        branch_index=branch.branch_index,
        worker=branch.worker_name,
        num_speculative_tokens=branch.num_speculative_tokens,
        finish_reason=branch.finish_reason,
        answer=branch.answer,
        is_correct=branch.is_correct,
        queued_at=branch.queued_at,
        started_at=branch.started_at,
        finished_at=branch.finished_at,
        queue_time_s=branch.queue_time_s,
        ttft_s=branch.ttft_s,
        decode_time_s=branch.decode_time_s,
        tpot_s=tpot_s,
        prompt_tokens=branch.prompt_tokens,
        completion_tokens=branch.completion_tokens,
        num_steps=branch.num_steps,
        drafted_by_position=branch.drafted_by_position,
        accepted_by_position=branch.accepted_by_position,
        text=branch.text,
        error=branch.error,
    )


def worker_view(worker: Worker, now: datetime, *, timeout_s: float) -> WorkerOut:
    """One worker; silent when its heartbeat is older than the timeout."""
    silence_s = (now - worker.heartbeat_at).total_seconds()
    status = "alive" if silence_s <= timeout_s else "silent"
    return WorkerOut.model_validate(
        {
            "name": worker.name,
            "model": worker.model,
            "engine": worker.engine,
            "status": status if worker.stopped_at is None else "stopped",
            "max_num_seqs": worker.spec["max_num_seqs"],
            "max_model_len": worker.spec["max_model_len"],
            "draft_lengths": worker.spec["draft_lengths"],
            "num_running_branches": worker.num_running_branches,
            "started_at": worker.started_at,
            "heartbeat_at": worker.heartbeat_at,
            "device": worker.latency_profile.get("device"),
        }
    )

"""Turns stored files and batches into the shapes of the OpenAI API."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from api.schemas.batches import (
    BatchErrorOut,
    BatchErrors,
    BatchExtras,
    BatchOut,
    BatchUsage,
    RequestCounts,
)
from api.schemas.files import BATCH_OUTPUT, FileOut
from db.models import File, Job, OpenaiBatch
from db.openai_batches import jobs_of
from db.openai_lines import refused_counts
from db.progress import JobProgress, jobs_progress
from scheduler.core.states import OPENAI_BATCH_TRANSITIONS, terminal_states

_TERMINAL = terminal_states(OPENAI_BATCH_TRANSITIONS)


def file_view(file: File) -> FileOut:
    """One file."""
    return FileOut(
        id=file.id,
        bytes=file.num_bytes,
        created_at=int(file.created_at.timestamp()),
        expires_at=_unix(file.expires_at),
        filename=file.filename,
        purpose=file.purpose,
        status="processed",
    )


def partial_file_view(batch: OpenaiBatch, file_id: str, num_bytes: int) -> FileOut:
    """A file that a batch still writes."""
    what = "output" if file_id == batch.output_file_id else "error"
    return FileOut(
        id=file_id,
        bytes=num_bytes,
        created_at=int(batch.created_at.timestamp()),
        expires_at=None,
        filename=f"{batch.id}_{what}.jsonl",
        purpose=BATCH_OUTPUT,
        status="uploaded",
    )


def batch_views(session: Session, batches: Sequence[OpenaiBatch]) -> list[BatchOut]:
    """Batches with their counts, in three statements however many they are."""
    ids = [batch.id for batch in batches]
    jobs = jobs_of(session, ids)
    progress = jobs_progress(session, [job.id for own in jobs.values() for job in own])
    refused = refused_counts(session, ids)
    return [
        _batch_view(
            batch,
            jobs[batch.id],
            [progress.get(job.id, JobProgress()) for job in jobs[batch.id]],
            refused.get(batch.id, 0),
        )
        for batch in batches
    ]


def _batch_view(
    batch: OpenaiBatch, jobs: Sequence[Job], progress: Sequence[JobProgress], num_refused: int
) -> BatchOut:
    completed = sum(each.answered for each in progress)
    failed = num_refused + sum(each.expired + each.failed + each.cancelled for each in progress)
    is_over = batch.state in _TERMINAL
    output_id = batch.output_file_id if completed else None
    error_id = batch.error_file_id if failed else None
    usage = None
    if is_over and batch.input_tokens is not None and batch.output_tokens is not None:
        usage = BatchUsage(
            input_tokens=batch.input_tokens,
            output_tokens=batch.output_tokens,
            total_tokens=batch.input_tokens + batch.output_tokens,
        )
    return BatchOut(
        id=batch.id,
        endpoint=batch.endpoint,
        model=batch.model,
        errors=(
            None
            if batch.errors is None
            else BatchErrors(data=[BatchErrorOut.model_validate(each) for each in batch.errors])
        ),
        input_file_id=batch.input_file_id,
        completion_window=batch.completion_window,
        status=batch.state,
        output_file_id=output_id if is_over else None,
        error_file_id=error_id if is_over else None,
        created_at=int(batch.created_at.timestamp()),
        expires_at=int(batch.expires_at.timestamp()),
        in_progress_at=_unix(batch.in_progress_at),
        finalizing_at=_unix(batch.finalizing_at),
        completed_at=_unix(batch.completed_at),
        failed_at=_unix(batch.failed_at),
        expired_at=_unix(batch.expired_at),
        cancelling_at=_unix(batch.cancelling_at),
        cancelled_at=_unix(batch.cancelled_at),
        request_counts=RequestCounts(total=batch.num_lines, completed=completed, failed=failed),
        usage=usage,
        metadata=batch.labels,
        slackline=BatchExtras(
            options=batch.options,
            job_ids=[job.id for job in jobs],
            output_file_id=output_id,
            error_file_id=error_id,
            degraded=sum(each.degraded for each in progress),
            predicted_finish_at=_unix(
                max(
                    (job.predicted_finish_p95_at for job in jobs if job.predicted_finish_p95_at),
                    default=None,
                )
            ),
            predicted_accuracy=_mean_accuracy(jobs),
        ),
    )


def _mean_accuracy(jobs: Sequence[Job]) -> float | None:
    """Predicted accuracy over the problems of all jobs; None before all have a plan."""
    known = [(job.num_problems, job.predicted_accuracy) for job in jobs]
    total = sum(number for number, _ in known)
    if not total or any(accuracy is None for _, accuracy in known):
        return None
    return sum(number * accuracy for number, accuracy in known if accuracy is not None) / total


def _unix(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())

"""The lines of a batch's output and error file, rendered from its problems.

They are the same whether a batch has ended and they are stored, or it runs and somebody wants what
there is so far. Pages are read in transactions of their own, so a slow reader holds none.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import orjson
from sqlalchemy.orm import Session

from api.openai.bodies import CHAT
from db.models import Job, OpenaiBatch, RefusedLine
from db.openai_batches import jobs_of
from db.openai_lines import LineResult, lines_page, refused_page
from db.session import SessionFactory, transaction
from scheduler.core.states import ProblemState

_PAGE = 500
Row = TypeVar("Row", LineResult, RefusedLine)

_NEVER_RAN = {
    ProblemState.EXPIRED: (
        "batch_expired",
        "This request could not be executed before the completion window expired.",
    ),
    ProblemState.CANCELLED: ("batch_cancelled", "This request was cancelled before it ended."),
}


def partial_lines(sessions: SessionFactory, batch: OpenaiBatch, file_id: str) -> Iterator[bytes]:
    """What a file of an unfinished batch has so far."""
    if file_id == batch.output_file_id:
        for _, line in answered_lines(sessions, batch):
            yield line
    else:
        yield from failed_lines(sessions, batch)


def answered_lines(
    sessions: SessionFactory, batch: OpenaiBatch
) -> Iterator[tuple[LineResult, bytes]]:
    """The lines of the output file so far, with what they were made from."""
    for job in _jobs(sessions, batch):
        for result in _results(sessions, job, answered=True):
            yield result, _line(job, result, _answer(batch, job, result))


def failed_lines(sessions: SessionFactory, batch: OpenaiBatch) -> Iterator[bytes]:
    """The lines of the error file so far."""
    for job in _jobs(sessions, batch):
        for result in _results(sessions, job, answered=False):
            yield _line(job, result, _failure(job, result))

    def page(session: Session, after: int) -> list[RefusedLine]:
        return refused_page(session, batch.id, after=after, limit=_PAGE)

    for refused in _paged(sessions, page):
        uid = f"{_uid(batch.id)}_{refused.position}"
        response = {
            "status_code": refused.status,
            "request_id": f"req_{uid}",
            "body": refused.error,
        }
        yield _dump(f"batch_req_{uid}", refused.key, {"response": response, "error": None})


def _jobs(sessions: SessionFactory, batch: OpenaiBatch) -> list[Job]:
    with transaction(sessions) as session:
        return jobs_of(session, [batch.id])[batch.id]


def _results(sessions: SessionFactory, job: Job, *, answered: bool) -> Iterator[LineResult]:
    def page(session: Session, after: int) -> list[LineResult]:
        return lines_page(session, job.id, answered=answered, after=after, limit=_PAGE)

    return _paged(sessions, page)


def _paged(sessions: SessionFactory, page: Callable[[Session, int], list[Row]]) -> Iterator[Row]:
    """Rows page by page, each page behind the position of the last row."""
    after = -1
    while True:
        with transaction(sessions) as session:
            rows = page(session, after)
        yield from rows
        if len(rows) < _PAGE:
            return
        after = rows[-1].position


def _line(job: Job, result: LineResult, outcome: dict[str, Any]) -> bytes:
    return _dump(f"batch_req_{_uid(job.id)}_{result.position}", result.key, outcome)


def _dump(request_id: str, custom_id: str, outcome: dict[str, Any]) -> bytes:
    return orjson.dumps({"id": request_id, "custom_id": custom_id, **outcome}) + b"\n"


def _answer(batch: OpenaiBatch, job: Job, result: LineResult) -> dict[str, Any]:
    """A line that ran: a completion whose one choice is the branch that won."""
    uid = f"{_uid(job.id)}_{result.position}"
    is_chat = batch.endpoint == CHAT
    text = result.text or ""
    said = {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}
    prompt_tokens = result.prompt_tokens or 0
    body = {
        "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{uid}",
        "object": "chat.completion" if is_chat else "text_completion",
        "created": int(result.finished_at.timestamp()),
        "model": job.model,
        "choices": [
            {
                "index": 0,
                **said,
                "logprobs": None,
                "finish_reason": result.finish_reason or "length",
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": result.completion_tokens,
            "total_tokens": prompt_tokens + result.completion_tokens,
        },
        "system_fingerprint": None,
        "slackline": _extras(job, result),
    }
    response = {"status_code": 200, "request_id": f"req_{uid}", "body": body}
    return {"response": response, "error": None}


def _extras(job: Job, result: LineResult) -> dict[str, Any]:
    """The vote, the branches and the latency behind an answer. Durations in seconds."""
    tpot_s = None
    tokens = result.branch_completion_tokens
    if result.decode_time_s is not None and tokens is not None and tokens > 1:
        tpot_s = result.decode_time_s / (tokens - 1)
    return {
        "answer": result.answer,
        "vote_share": result.vote_share,
        "is_correct": result.is_correct,
        "degraded": result.degraded,
        "num_branches_finished": result.num_branches_finished,
        "num_branches_planned": result.num_branches,
        "predicted_accuracy": result.predicted_accuracy,
        "job_id": job.id,
        "latency": {
            "dispatched_at": result.dispatched_at,
            "finished_at": result.finished_at,
            "e2e_latency_s": (result.finished_at - job.created_at).total_seconds(),
        },
        "branch": None
        if result.branch_index is None
        else {
            "index": result.branch_index,
            "worker": result.worker_name,
            "num_speculative_tokens": result.num_speculative_tokens,
            "queued_at": result.queued_at,
            "started_at": result.started_at,
            "queue_time_s": result.queue_time_s,
            "ttft_s": result.ttft_s,
            "decode_time_s": result.decode_time_s,
            "tpot_s": tpot_s,
            "completion_tokens": tokens,
        },
    }


def _failure(job: Job, result: LineResult) -> dict[str, Any]:
    """A line without an answer: it ran into an error, or it never ran."""
    if result.num_errors and result.state == ProblemState.FAILED:
        error = {
            "message": result.error,
            "type": "server_error",
            "param": None,
            "code": "inference_failed",
        }
        request_id = f"req_{_uid(job.id)}_{result.position}"
        response = {"status_code": 500, "request_id": request_id, "body": {"error": error}}
        return {"response": response, "error": None}
    code, message = _NEVER_RAN.get(ProblemState(result.state), ("batch_failed", result.error))
    return {"response": None, "error": {"code": code, "message": message}}


def _uid(own_id: str) -> str:
    return own_id.rpartition("_")[2]

"""Simulated jobs, their events and refusals as the store has them."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise
from statistics import fmean
from typing import Any

from db.plans import plan_columns
from db.progress import JobProgress
from infra.simulated.fleets import MARK
from infra.simulated.run import MAX_BRANCHES, Ended
from infra.simulated.work_rows import Row, prompt_tokens
from scheduler.core.config import SchedulerConfig
from scheduler.core.decisions import Admitted, JobPlanned, Rejected
from scheduler.core.event_kinds import EventKind
from scheduler.core.states import JobState


def refusal_row(ended: Ended, verdict: Rejected) -> Row:
    """A refused submission; its tenant is added."""
    at_s, earliest_s = ended.outcome.arrival_s, verdict.earliest_finish_s
    return {
        "at": ended.at(at_s),
        "reason": verdict.reason,
        "model": ended.fleet.model,
        "num_problems": ended.outcome.num_problems,
        "mean_prompt_tokens": _mean_prompt_tokens(ended),
        "max_branches": MAX_BRANCHES,
        "deadline_at": ended.at(ended.outcome.deadline_s),
        "earliest_finish_at": None if earliest_s is None else ended.at(at_s + earliest_s),
    }


def job_row(ended: Ended, verdict: Admitted) -> Row:
    """A job that ended; its id and tenant are added."""
    outcome, admitted = ended.outcome, verdict.forecast
    latest_s, latest = _plans(ended, verdict)[-1]
    return {
        "name": ended.arrival.habit.name + MARK,
        "model": ended.fleet.model,
        "family": ended.fleet.family,
        "state": _state(ended),
        "deadline_at": ended.at(outcome.deadline_s),
        "max_branches": MAX_BRANCHES,
        "temperature": 1.0,
        "top_p": 1.0,
        "num_problems": outcome.num_problems,
        "mean_prompt_tokens": _mean_prompt_tokens(ended),
        "verdict": verdict.verdict,
        "admitted_finish_at": ended.at(outcome.arrival_s + admitted.finish_p50_s),
        "admitted_finish_p95_at": ended.at(outcome.arrival_s + admitted.finish_p95_s),
        "admitted_accuracy": admitted.accuracy,
        "is_promised": verdict.is_promised,
        "forecast_basis": ended.admission.basis,
        **plan_columns(latest.plan),
        "predicted_finish_at": ended.at(latest_s + latest.forecast.finish_p50_s),
        "predicted_finish_p95_at": ended.at(latest_s + latest.forecast.finish_p95_s),
        "predicted_accuracy": latest.forecast.accuracy,
        "created_at": ended.at(outcome.arrival_s),
        "started_at": None if (at_s := _started_s(ended)) is None else ended.at(at_s),
        "finished_at": ended.at(outcome.finish_s),
        "met_deadline": outcome.met_deadline,
        "final_progress": asdict(_progress(ended)),
    }


def event_rows(ended: Ended, verdict: Admitted) -> Iterator[Row]:
    """What clients are told of a job, in order; its id and tenant are added."""
    outcome = ended.outcome

    def event(at_s: float, kind: EventKind, **data: Any) -> Row:
        return {"at": ended.at(at_s), "kind": kind, "data": data}

    yield event(
        outcome.arrival_s,
        EventKind.JOB_QUEUED,
        num_problems=outcome.num_problems,
        degraded=verdict.degraded,
        verdict=verdict.verdict,
        is_promised=verdict.is_promised,
        retry_of=None,
        decision=ended.admission.decision,
    )
    if (started_s := _started_s(ended)) is not None:
        yield event(started_s, EventKind.JOB_RUNNING)
    for (_, before), (at_s, planned) in pairwise(_plans(ended, verdict)):
        if planned.plan != before.plan:
            yield event(
                at_s,
                EventKind.PLAN_STORED,
                **plan_columns(planned.plan),
                **{k: v for k, v in asdict(planned.forecast).items() if k != "row_seconds"},
                reason=planned.reason,
                before=plan_columns(before.plan),
            )
    progress = _progress(ended)
    yield event(
        outcome.finish_s,
        EventKind.of_job(_state(ended)),
        num_answered=progress.answered,
        num_degraded=progress.degraded,
        num_expired=progress.expired,
        num_failed=0,
    )


def _state(ended: Ended) -> JobState:
    return JobState.COMPLETED if ended.outcome.met_deadline else JobState.EXPIRED


def _progress(ended: Ended) -> JobProgress:
    answered = [problem for problem in ended.outcome.problems if problem.is_answered]
    return JobProgress(
        answered=len(answered),
        expired=ended.outcome.num_problems - len(answered),
        degraded=sum(problem.is_degraded for problem in answered),
        num_graded=len(answered),
        num_correct=ended.outcome.num_right,
    )


def _plans(ended: Ended, verdict: Admitted) -> list[tuple[float, JobPlanned]]:
    """Plans with the time from which each was in force, that of the admission first."""
    first = JobPlanned(ended.outcome.id, verdict.plan, verdict.forecast)
    return [(ended.outcome.arrival_s, first), *ended.plans]


def _started_s(ended: Ended) -> float | None:
    """When the first batch reached its worker."""
    created_s = (batch.created_s for batch in ended.outcome.batches)
    first_s = min(created_s, default=None)
    return None if first_s is None else first_s + SchedulerConfig().dispatch_s


def _mean_prompt_tokens(ended: Ended) -> float:
    return fmean(prompt_tokens(ended, question) for question, _ in ended.drawn)

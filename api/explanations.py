"""Explains a job: the decision at its admission, the one of now, and its history in words."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from api.schemas.explanations import (
    DecisionOut,
    ExplanationOut,
    HistoryOut,
    OutcomeOut,
    StopsOut,
)
from api.words import event_words, fate_words, why_words
from db import events
from db.models import Job
from db.problems import job_outcome
from db.progress import job_progress
from db.snapshot import read_snapshot
from scheduler.core.config import SchedulerConfig
from scheduler.core.event_kinds import EventKind
from scheduler.core.explain import explain_live
from scheduler.core.states import LIVE, JobState

HISTORY_SHOWN = 200
_SHOWN_KINDS = (
    *(EventKind.of_job(state) for state in JobState),
    EventKind.JOB_CHANGED,
    EventKind.JOB_AT_RISK,
    EventKind.JOB_ON_TRACK,
    EventKind.PLAN_STORED,
    EventKind.DEADLINE_STRUCK,
    EventKind.BATCH_LOST,
)


def explanation_of(
    session: Session, job: Job, config: SchedulerConfig, *, now: datetime
) -> ExplanationOut:
    """The explanation of a job at this moment."""
    found = events.list_events(session, job.id, kinds=_SHOWN_KINDS, limit=HISTORY_SHOWN + 1)
    admitted = (EventKind.JOB_QUEUED, EventKind.JOB_CHANGED)
    decisions = [event.data.get("decision") for event in found if event.kind in admitted]
    stored = next(filter(None, reversed(decisions)), None)
    live = None
    if job.state in LIVE:
        live = explain_live(read_snapshot(session, now), job.id, config)
    return ExplanationOut(
        job_id=job.id,
        state=JobState(job.state),
        verdict=job.verdict,
        admission=None if stored is None else _decision(stored),
        now=None if live is None else _decision(live.to_dict()),
        history=[
            HistoryOut(
                at=event.at,
                kind=event.kind,
                what=event_words(event.kind, event.data),
                # Shown as `admission`.
                data={name: value for name, value in event.data.items() if name != "decision"},
            )
            for event in found[:HISTORY_SHOWN]
        ],
        history_has_more=len(found) > HISTORY_SHOWN,
        stops=StopsOut.model_validate(job_outcome(session, job.id), from_attributes=True),
        outcome=_outcome(session, job),
    )


def _decision(stored: Mapping[str, Any]) -> DecisionOut | None:
    """A decision with its words; None for one that another release wrote differently."""
    try:
        decision = DecisionOut.model_validate(stored)
    except ValidationError:
        return None
    for candidate in decision.candidates:
        candidate.why = fate_words(candidate, decision.forecast, decision)
    decision.why = why_words(decision)
    return decision


def _outcome(session: Session, job: Job) -> OutcomeOut | None:
    if job.finished_at is None:
        return None
    return OutcomeOut(
        finished_at=job.finished_at,
        admitted_finish_at=job.admitted_finish_at,
        admitted_finish_p95_at=job.admitted_finish_p95_at,
        within_p95=job.finished_at <= job.admitted_finish_p95_at,
        accuracy=job_progress(session, job.id).accuracy,
        admitted_accuracy=job.admitted_accuracy,
    )

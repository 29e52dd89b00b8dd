"""What is told of promised deadlines that are at risk."""

from datetime import datetime, timedelta

from sqlalchemy import func, literal, null, select, text, update
from sqlalchemy.orm import Session

from db import events
from db.models import Job
from db.plans import part_named, planned_row
from scheduler.core.decisions import Risk
from scheduler.core.event_kinds import EventKind
from scheduler.core.states import LIVE

_FORGET_ENDED = tuple(
    text(
        f"""
        UPDATE {table}
        SET risk_reason = NULL, at_risk_since = NULL, risk_finish_p95_at = NULL
        FROM jobs AS live
        WHERE live.id = {table}.{key} AND live.finished_at IS NULL
            AND {table}.risk_reason IS NOT NULL
            AND NOT EXISTS (
                SELECT FROM problems
                WHERE problems.job_id = live.id AND problems.part = {part}
                    AND problems.finished_at IS NULL
            )
        """
    )
    for table, key, part in (("jobs", "id", "0"), ("job_parts", "job_id", "job_parts.part"))
)


def forget_ended_risks(session: Session) -> None:
    """Nothing is at risk of a part of a live job whose problems have all ended."""
    for statement in _FORGET_ENDED:
        session.execute(statement)


def note_risk(session: Session, risk: Risk, *, now: datetime) -> bool:
    """Store that a live job is at risk, or is on track again; False when that is known."""
    finish_at = None
    if risk.finish_p95_s is not None:
        finish_at = now + timedelta(seconds=risk.finish_p95_s)
    is_over = risk.reason is None
    row, is_it = planned_row(risk.job_id, risk.part)
    is_live = select(Job.id).where(Job.id == risk.job_id, Job.state.in_(LIVE)).exists()
    changed = session.execute(
        update(row)
        .where(is_it, is_live, row.risk_reason.is_distinct_from(risk.reason))
        .values(
            risk_reason=risk.reason,
            at_risk_since=null() if is_over else func.coalesce(row.at_risk_since, literal(now)),
            risk_finish_p95_at=None if is_over else finish_at,
        )
        .returning(row.deadline_at)
    ).first()
    if changed is None:
        return False
    data = {
        "deadline_at": changed.deadline_at.isoformat(),
        "predicted_finish_p95_at": finish_at.isoformat() if finish_at else None,
        **part_named(session, risk.job_id, risk.part),
    }
    events.record(
        session,
        job_id=risk.job_id,
        kind=EventKind.JOB_ON_TRACK if is_over else EventKind.JOB_AT_RISK,
        data=data if is_over else {"reason": risk.reason, **data},
        now=now,
    )
    return True

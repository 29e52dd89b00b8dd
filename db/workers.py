"""Workers: registration, heartbeat and clean stop."""

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.models import Worker
from scheduler.core.accuracy import AnswerProfile
from scheduler.core.latency import LatencyProfile
from scheduler.core.plan import EngineSpec


def register_worker(
    session: Session,
    *,
    name: str,
    incarnation: str,
    spec: EngineSpec,
    latency: LatencyProfile,
    answers: AnswerProfile,
    now: datetime,
) -> None:
    """Put the process behind the name; an older incarnation loses it with its batches."""
    columns = {
        "incarnation": incarnation,
        "model": spec.model,
        "engine": spec.engine,
        "spec": asdict(spec),
        "latency_profile": latency.to_dict(),
        "answer_profile": answers.to_dict(),
        "num_running_branches": 0,
        "started_at": now,
        "heartbeat_at": now,
        "stopped_at": None,
    }
    session.execute(
        insert(Worker)
        .values(name=name, **columns)
        .on_conflict_do_update(index_elements=[Worker.name], set_=columns)
    )


def heartbeat(
    session: Session, *, name: str, incarnation: str, num_running_branches: int, now: datetime
) -> bool:
    """Show a sign of life; False when another incarnation took the name or it was stopped."""
    beaten = session.execute(
        update(Worker)
        .where(Worker.name == name, Worker.incarnation == incarnation, Worker.stopped_at.is_(None))
        .values(heartbeat_at=now, num_running_branches=num_running_branches)
        .returning(Worker.name)
    )
    return beaten.first() is not None


def refresh_latency(
    session: Session, *, name: str, incarnation: str, latency: LatencyProfile
) -> bool:
    """Plan by this profile from the next tick on; False when the name is not this incarnation's."""
    refreshed = session.execute(
        update(Worker)
        .where(Worker.name == name, Worker.incarnation == incarnation, Worker.stopped_at.is_(None))
        .values(latency_profile=latency.to_dict())
        .returning(Worker.name)
    )
    return refreshed.first() is not None


def stop_worker(session: Session, *, name: str, incarnation: str, now: datetime) -> bool:
    """Take the worker out of planning; False when it is not this incarnation's to stop."""
    stopped = session.execute(
        update(Worker)
        .where(Worker.name == name, Worker.incarnation == incarnation, Worker.stopped_at.is_(None))
        .values(stopped_at=now, num_running_branches=0)
        .returning(Worker.name)
    )
    return stopped.first() is not None


def list_workers(session: Session) -> list[Worker]:
    """Every worker that ever registered, by name."""
    return list(session.scalars(select(Worker).order_by(Worker.name)))


def incarnations(session: Session) -> frozenset[str]:
    """Of the workers that have not stopped."""
    return frozenset(session.scalars(select(Worker.incarnation).where(Worker.stopped_at.is_(None))))


def models(session: Session) -> list[str]:
    """Models that a worker has ever served, by name; whether one serves now is admission's."""
    return list(session.scalars(select(Worker.model).distinct().order_by(Worker.model)))

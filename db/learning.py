"""What profiles of answers are learned from, and where they are kept."""

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from itertools import groupby
from threading import Lock
from typing import Any, NamedTuple

from sqlalchemy import Row, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from db.models import Branch, Job, LearnedProfile, Worker
from scheduler.core.accuracy import AnswerProfile
from scheduler.core.recorded import RecordedProblem

_LATEST_JOBS = 200
"""Jobs of one family that the latest problems are looked for in."""

_MAX_KNOWN = 1024
"""Parsed profiles kept in memory."""


class Family(NamedTuple):
    """The problems of one kind as one model answers them."""

    model: str
    family: str


def families(session: Session) -> list[Family]:
    """Every model and family that a job was ever submitted for."""
    rows = session.execute(select(Job.model, Job.family).distinct().order_by(Job.model, Job.family))
    return [Family(*row) for row in rows]


def finished_since(session: Session, since: datetime) -> dict[Family, int]:
    """Problems with branches that finished after an instant, by model and family."""
    rows = session.execute(
        select(Job.model, Job.family, func.count(Branch.problem_id.distinct()))
        .join(Job, Job.id == Branch.job_id)
        .where(Branch.finished_at > since)
        .group_by(Job.model, Job.family)
    )
    return {Family(model, family): count for model, family, count in rows}


_LATEST_BRANCHES = text("""
WITH latest AS (
    SELECT ended.id, job.id AS job_id, ended.finished_at
    FROM (
        SELECT id FROM jobs
        WHERE model = :model AND family = :family
        ORDER BY created_at DESC
        LIMIT :num_jobs
    ) AS job
    CROSS JOIN LATERAL (
        SELECT id, finished_at
        FROM problems
        WHERE problems.job_id = job.id AND state IN ('answered', 'expired')
        ORDER BY finished_at DESC
        LIMIT :num_problems
    ) AS ended
    ORDER BY ended.finished_at DESC, ended.id
    LIMIT :num_problems
)
SELECT problem_id, vote_class, is_correct, completion_tokens, finish_reason
FROM latest
JOIN branches ON branches.problem_id = latest.id AND branches.job_id = latest.job_id
WHERE completion_tokens > 0 AND finish_reason <> 'error'
ORDER BY latest.finished_at, problem_id, branch_index
""")


def latest_problems(session: Session, family: Family, limit: int) -> list[RecordedProblem]:
    """The branches of the latest ended problems, oldest first; failed branches are left out.

    A branch that was aborted, or cut by its cap, is marked as cut. Problems whose branches are not
    graded keep their classes without saying which is right.
    """
    rows = session.execute(
        _LATEST_BRANCHES, {**family._asdict(), "num_jobs": _LATEST_JOBS, "num_problems": limit}
    )
    return [_recorded(list(branches)) for _, branches in groupby(rows, lambda row: row.problem_id)]


def _recorded(branches: list[Row[Any]]) -> RecordedProblem:
    """One problem; a class graded right becomes class 0, which the others are moved away from."""
    right = {branch.vote_class for branch in branches if branch.is_correct}
    graded = any(branch.is_correct is not None for branch in branches)
    open_ = any(b.is_correct is None and b.vote_class is not None for b in branches)
    return RecordedProblem(
        classes=tuple(
            None if b.vote_class is None else 0 if b.vote_class in right else b.vote_class + 1
            for b in branches
        ),
        tokens=tuple(branch.completion_tokens for branch in branches),
        finished=tuple(branch.finish_reason == "stop" for branch in branches),
        # With nothing graded right and some class not graded, the right one may be among those.
        is_labeled=bool(right) or (graded and not open_),
    )


def given_profiles(session: Session, model: str) -> list[AnswerProfile]:
    """Profiles that workers of the model brought along, by worker name."""
    rows = session.scalars(
        select(Worker.answer_profile).where(Worker.model == model).order_by(Worker.name)
    )
    return _readable(rows)


def store_profile(session: Session, profile: AnswerProfile, *, now: datetime) -> None:
    """Replace what is known of the profile's model and family."""
    data = profile.to_dict()
    columns = {
        "profile": data,
        "sha256": hashlib.sha256(json.dumps(data).encode()).hexdigest(),
        "num_problems": profile.num_problems_seen,
        "num_branches": profile.num_branches_seen,
        "fitted_at": now,
    }
    session.execute(
        insert(LearnedProfile)
        .values(model=profile.model, family=profile.family, **columns)
        .on_conflict_do_update(
            index_elements=[LearnedProfile.model, LearnedProfile.family], set_=columns
        )
    )


def learned_profiles(session: Session) -> tuple[AnswerProfile, ...]:
    """Everything that was learned, by model and family; a profile is read once per process.

    Profiles of another release, which cannot be read, are left out.
    """
    wanted = session.scalars(
        select(LearnedProfile.sha256).order_by(LearnedProfile.model, LearnedProfile.family)
    ).all()
    with _known_lock:
        missing = [sha256 for sha256 in wanted if sha256 not in _known]
    if missing:
        rows = session.execute(
            select(LearnedProfile.sha256, LearnedProfile.profile).where(
                LearnedProfile.sha256.in_(missing)
            )
        ).all()
        with _known_lock:
            while len(_known) > _MAX_KNOWN:
                del _known[next(iter(_known))]
            for sha256, data in rows:
                _known[sha256] = next(iter(_readable([data])), None)
    with _known_lock:
        found = [_known.get(sha256) for sha256 in wanted]
    return tuple(profile for profile in found if profile is not None)


_known: dict[str, AnswerProfile | None] = {}
_known_lock = Lock()


def _readable(rows: Iterable[dict[str, Any]]) -> list[AnswerProfile]:
    profiles = []
    for data in rows:
        try:
            profiles.append(AnswerProfile.from_dict(data))
        except ValueError:
            continue
    return profiles

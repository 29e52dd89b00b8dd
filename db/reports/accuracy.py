"""Accuracy against branches: what votes over fewer branches would have given, and have saved."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import numpy as np
from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from db.reports.cells import Cell, Selection, Subject, Where, read
from db.reports.facts import COLUMNS, DIMENSIONS, JOB_DIMENSIONS, held_s, hour_of
from db.reports.groups import GroupBy, Key
from db.reports.periods import Every
from db.reports.sums import Share, Sums, packed
from scheduler.core.intervals import Z95
from scheduler.core.majority import majority_accuracy
from scheduler.core.sketch import FloatArray

WIDTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64)
"""Numbers of branches that are told of; more branches of a problem count as if they were fewer."""

_PROBLEMS, _RIGHT, _SQUARES, _RIGHT_OF_ALL, _USED_S, _SAVED_S, _SAVED_ENGINE_S = range(7)

# Problems whose branches fell into classes of the same sizes are alike. Dimensions come last: they
# are texts, and there are many branches to sort.
_ALIKE = """
WITH job AS MATERIALIZED (
    SELECT *
    FROM (
        SELECT {hour} AS hour, jobs.id, {dimensions}
        FROM jobs
        WHERE finished_at >= :since AND finished_at < :until AND state <> 'cancelled'
    ) AS ended
    WHERE {where}
), problem AS (
    SELECT job_id, problem_id,
        coalesce(sum(votes) FILTER (WHERE is_right), 0)::int AS num_right,
        coalesce(array_agg(votes::int ORDER BY votes)
            FILTER (WHERE vote_class IS NOT NULL AND NOT is_right), '{{}}') AS others,
        coalesce(sum(votes) FILTER (WHERE vote_class IS NULL AND NOT is_right), 0)::int
            AS num_silent,
        sum(row_seconds) AS row_seconds, sum(engine_seconds) AS engine_seconds
    FROM (
        SELECT branches.job_id, branches.problem_id, branches.vote_class,
            coalesce(bool_or(branches.is_correct), false) AS is_right,
            count(*) AS votes,
            sum({held}) AS row_seconds, sum({held} / nullif(num_rows, 0)) AS engine_seconds
        FROM job
        JOIN problems ON problems.job_id = job.id AND problems.is_correct IS NOT NULL
        JOIN branches ON branches.problem_id = problems.id AND branches.job_id = job.id
        WHERE branches.finish_reason IN ('stop', 'length')
        GROUP BY branches.job_id, branches.problem_id, branches.vote_class
    ) AS class
    GROUP BY job_id, problem_id
)
SELECT hour, {columns}, num_right, others, num_silent, count(*) AS num_problems,
    sum(row_seconds) AS row_seconds, sum(engine_seconds) AS engine_seconds
FROM problem JOIN job ON job.id = problem.job_id
GROUP BY hour, {columns}, num_right, others, num_silent
"""


def _cells(session: Session, since: datetime, until: datetime, where: Where) -> Iterator[Cell]:
    statement = _ALIKE.format(
        columns=COLUMNS,
        dimensions=JOB_DIMENSIONS,
        hour=hour_of("jobs.finished_at"),
        held=held_s("branches"),
        where=where.sql,
    )
    found = session.execute(text(statement), {"since": since, "until": until, **where.parameters})
    by_size: dict[int, list[Row[Any]]] = {}
    for row in found:
        size = row.num_right + sum(row.others) + row.num_silent
        by_size.setdefault(size, []).append(row)
    for size, rows in by_size.items():
        yield from _votes(size, rows)


def _votes(size: int, rows: list[Row[Any]]) -> Iterator[Cell]:
    """Sums of kinds of problems with so many branches, over the widths that these suffice for."""
    shares = np.array(
        [_shares(row.num_right, tuple(row.others), row.num_silent) for row in rows]
    )  # (num_rows, num_widths + 1)
    share, share_of_all = shares[:, :-1], shares[:, -1:]
    num, row_s, engine_s = (
        np.array([getattr(row, name) or 0.0 for row in rows])[:, None]  # (num_rows, 1)
        for name in ("num_problems", "row_seconds", "engine_seconds")
    )
    widths = np.array(WIDTHS[: share.shape[1]])
    used = widths / size
    weights = {
        _PROBLEMS: num,
        _RIGHT: num * share,
        _SQUARES: num * share * share,
        _RIGHT_OF_ALL: num * share_of_all,
        _USED_S: row_s * used,
        _SAVED_S: row_s * (1 - used),
        _SAVED_ENGINE_S: engine_s * (1 - used),
    }
    table = np.stack(
        [np.broadcast_to(of_part, share.shape) for of_part in weights.values()], axis=1
    )  # (num_rows, num_parts, num_widths)
    strings = packed(np.array(list(weights))[:, None], widths, table)
    length = len(strings) // len(rows)
    for place, row in enumerate(rows):
        dimensions = tuple(getattr(row, name) for name in DIMENSIONS)
        yield Cell(row.hour, dimensions, strings[place * length : (place + 1) * length])


@lru_cache(maxsize=65_536)
def _shares(num_right: int, others: tuple[int, ...], num_silent: int) -> FloatArray:
    """How often votes over each of `WIDTHS` that has the branches, and over all, are right."""
    total = num_right + sum(others) + num_silent
    widths = [*(width for width in WIDTHS if width <= total), total]
    return np.array([majority_accuracy(num_right, others, num_silent, n) for n in widths])


SUBJECT = Subject("votes", _cells)


@dataclass(frozen=True, slots=True)
class WidthRow:
    """A vote over `num_branches` of the stored branches of each problem that has as many.

    Attributes:
        accuracy: Unbiased mean over all choices of so many, with a 95% interval over problems.
        accuracy_of_all: A vote over all branches of the same problems.
        row_seconds: Of such a vote, per problem; branches cost their problem's mean.
        saved_row_seconds: What it would have saved of all row-seconds of these problems together.
        saved_engine_seconds: The same in time of engines, and so of GPUs: a branch has the share of
            one row among those in use when it ended. One whose rows were not recorded has none.
    """

    num_branches: int
    num_problems: int
    accuracy: Share
    accuracy_of_all: float
    row_seconds: float
    saved_row_seconds: float
    saved_engine_seconds: float


@dataclass(frozen=True, slots=True)
class AccuracyRow:
    """Graded problems of jobs that ended in the range.

    Attributes:
        group: What the row is about; null for all, or for what is not known.
        at: Beginning of the hour or day that the row is about; null for the whole range.
        num_problems: Those with a finished branch.
        widths: By number of branches. The problems behind differ, as not all have as many
            branches: compare within a row.
    """

    group: str | None
    at: datetime | None
    num_problems: int
    widths: list[WidthRow]


def accuracy_report(
    session: Session,
    selection: Selection,
    *,
    group_by: GroupBy | None = None,
    every: Every | None = None,
) -> list[AccuracyRow]:
    """Accuracy of votes over fewer branches than ran, by group."""
    found = read(session, SUBJECT, selection, group_by, every)
    return [_row(key, sums) for key, sums in found.items()]


def _row(key: Key, sums: Sums) -> AccuracyRow:
    parts = [sums.counts(part) for part in range(_SAVED_ENGINE_S + 1)]
    widths = [
        _width(width, *(part.get(width, 0.0) for part in parts))
        for width in sorted(parts[_PROBLEMS])
    ]
    return AccuracyRow(*key, int(parts[_PROBLEMS][WIDTHS[0]]), widths)


def _width(
    width: int,
    num_problems: float,
    right: float,
    squares: float,
    right_of_all: float,
    used_s: float,
    saved_s: float,
    saved_engine_s: float,
) -> WidthRow:
    share = right / num_problems
    spread = max(0.0, squares / num_problems - share * share)
    half = Z95 * math.sqrt(spread / num_problems)
    return WidthRow(
        num_branches=width,
        num_problems=int(num_problems),
        accuracy=Share(share, max(0.0, share - half), min(1.0, share + half)),
        accuracy_of_all=right_of_all / num_problems,
        row_seconds=used_s / num_problems,
        saved_row_seconds=saved_s,
        saved_engine_seconds=saved_engine_s,
    )

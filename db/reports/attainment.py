"""Attainment: which jobs were in time, by how much, and how much was to spare at submission."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from db.reports.cells import Selection, Subject, read, seconds, summed
from db.reports.facts import COLUMNS, JOB_DIMENSIONS, deadline_class, hour_of, sketch_bin
from db.reports.groups import GroupBy, Key
from db.reports.periods import Every
from db.reports.sums import Percentiles, Share, Sums
from scheduler.core.intervals import wilson

_COUNTS, _LATENESS, _SLACK, _LATENESS_BINS, _SLACK_BINS = range(5)
_ENDED, _PROMISED, _MET, _COMPLETED, _EXPIRED, _FAILED, _CANCELLED, _REFUSED = range(8)

_EDGES = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 21_600.0, 86_400.0)
EDGES_S = (*(-edge for edge in reversed(_EDGES)), 0.0, *_EDGES)
"""Where the histograms of lateness and slack divide."""

_EDGES_SQL = f"ARRAY[{', '.join(map(str, EDGES_S))}]::float8[]"

_FACTS = f"""
SELECT hour, {COLUMNS}, part, bin, count(*) AS weight
FROM (
    SELECT {hour_of("jobs.finished_at")} AS hour, {JOB_DIMENSIONS}, state, is_promised,
        met_deadline,
        extract(epoch FROM finished_at - deadline_at)::float8 AS lateness_s,
        extract(epoch FROM deadline_at - admitted_finish_at)::float8 AS slack_s
    FROM jobs
    WHERE finished_at >= :since AND finished_at < :until
) AS ended
CROSS JOIN LATERAL (
    VALUES ({_COUNTS}, CASE WHEN state <> 'cancelled' THEN {_ENDED} END),
        ({_COUNTS}, CASE WHEN state <> 'cancelled' AND is_promised THEN {_PROMISED} END),
        ({_COUNTS}, CASE WHEN met_deadline AND is_promised THEN {_MET} END),
        ({_COUNTS}, CASE state WHEN 'completed' THEN {_COMPLETED} WHEN 'expired' THEN {_EXPIRED}
            WHEN 'failed' THEN {_FAILED} WHEN 'cancelled' THEN {_CANCELLED} END),
        ({_LATENESS}, CASE WHEN state <> 'cancelled' THEN {sketch_bin("lateness_s")} END),
        ({_SLACK}, CASE WHEN state <> 'cancelled' THEN {sketch_bin("slack_s")} END),
        ({_LATENESS_BINS},
            CASE WHEN state <> 'cancelled' THEN width_bucket(lateness_s, {_EDGES_SQL}) END),
        ({_SLACK_BINS}, CASE WHEN state <> 'cancelled' THEN width_bucket(slack_s, {_EDGES_SQL}) END)
) AS fact (part, bin)
WHERE bin IS NOT NULL
GROUP BY hour, {COLUMNS}, part, bin
UNION ALL
SELECT {hour_of("at")}, tenant_id, model, '', '', {deadline_class("at", "deadline_at")}, '',
    {_COUNTS}, {_REFUSED}, count(*)
FROM refusals
WHERE at >= :since AND at < :until
GROUP BY 1, 2, 3, 6
"""

SUBJECT = Subject("jobs", summed(_FACTS))


@dataclass(frozen=True, slots=True)
class Bin:
    """Jobs with a value of at least `ge_s` and below `lt_s` seconds; null is no bound."""

    ge_s: float | None
    lt_s: float | None
    num_jobs: int


@dataclass(frozen=True, slots=True)
class AttainmentRow:
    """Jobs that ended in the range.

    Attributes:
        group: What the row is about; null for all, or for what is not known.
        at: Beginning of the hour or day that the row is about; null for the whole range.
        num_jobs: Those that completed, expired or failed; all that follows is about them.
        num_promised: Those of them with a promise: what was taken as a best effort has none.
        num_met: Those with a promise that completed by their deadline.
        slo_attainment: `num_met / num_promised`, with Wilson's interval.
        request_goodput: Jobs per second that met their deadline, over the range or the bucket.
        num_refused: Submissions that were refused in the range.
        lateness_s: End minus deadline; negative is early.
        slack_s: Deadline minus predicted end (P50), at submission.
    """

    group: str | None
    at: datetime | None
    num_jobs: int
    num_promised: int
    num_met: int
    num_completed: int
    num_expired: int
    num_failed: int
    num_cancelled: int
    num_refused: int
    slo_attainment: Share
    request_goodput: float
    lateness_s: Percentiles
    slack_s: Percentiles
    lateness_histogram: list[Bin]
    slack_histogram: list[Bin]


class Ended:
    """Counts of ended jobs."""

    def __init__(self, sums: Sums) -> None:
        self._counts = sums.counts(_COUNTS)
        self.num_jobs = self.count(_ENDED)
        self.num_refused = self.count(_REFUSED)
        self.attainment = Share.of(wilson(self.count(_MET), self.count(_PROMISED)))

    def count(self, which: int) -> int:
        """Jobs of one kind."""
        return int(self._counts.get(which, 0))


def ended_jobs(
    session: Session, selection: Selection, group_by: GroupBy | None, every: Every | None
) -> dict[Key, Ended]:
    """Counts by group, for the reports that show them beside."""
    found = read(session, SUBJECT, selection, group_by, every)
    return {key: Ended(sums) for key, sums in found.items()}


def attainment_report(
    session: Session,
    selection: Selection,
    *,
    group_by: GroupBy | None = None,
    every: Every | None = None,
) -> list[AttainmentRow]:
    """Who was in time, by how much, and what was to spare, by group."""
    found = read(session, SUBJECT, selection, group_by, every)
    return [
        _row(key, sums, seconds(selection, group_by, every, key)) for key, sums in found.items()
    ]


def _row(key: Key, sums: Sums, range_s: float) -> AttainmentRow:
    jobs = Ended(sums)
    return AttainmentRow(
        *key,
        num_jobs=jobs.num_jobs,
        num_promised=jobs.count(_PROMISED),
        num_met=jobs.count(_MET),
        num_completed=jobs.count(_COMPLETED),
        num_expired=jobs.count(_EXPIRED),
        num_failed=jobs.count(_FAILED),
        num_cancelled=jobs.count(_CANCELLED),
        num_refused=jobs.num_refused,
        slo_attainment=jobs.attainment,
        request_goodput=jobs.count(_MET) / range_s,
        lateness_s=sums.percentiles(_LATENESS),
        slack_s=sums.percentiles(_SLACK),
        lateness_histogram=_histogram(sums, _LATENESS_BINS),
        slack_histogram=_histogram(sums, _SLACK_BINS),
    )


def _histogram(sums: Sums, part: int) -> list[Bin]:
    edges = (None, *EDGES_S, None)
    return [
        Bin(edges[number], edges[number + 1], int(count))
        for number, count in sums.counts(part).items()
    ]

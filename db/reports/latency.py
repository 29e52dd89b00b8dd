"""Latency by stage: how long branches waited, began, decoded and took as a whole."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from db.reports.attainment import Ended, ended_jobs
from db.reports.cells import Selection, Subject, read, summed_of_branches
from db.reports.facts import BRANCH_KEY, COUNTED, hour_of, sketch_bin
from db.reports.groups import GroupBy, order
from db.reports.periods import Every
from db.reports.sums import Percentiles, Sums

_COUNT, _QUEUE, _TTFT, _TPOT, _E2E = range(5)

# Bins are found once, before there is a row for each stage. They are not counted here: few
# branches of a batch share one.
_FACTS = f"""
WITH finished AS MATERIALIZED (
    SELECT {BRANCH_KEY},
        {sketch_bin("queue_time_s")} AS queue,
        {sketch_bin("ttft_s")} AS ttft,
        {sketch_bin("tpot_s")} AS tpot,
        {sketch_bin("e2e_latency_s")} AS e2e
    FROM (
        SELECT {hour_of("finished_at")} AS hour, batch_id, num_speculative_tokens,
            queue_time_s, ttft_s, decode_time_s / nullif(completion_tokens - 1, 0) AS tpot_s,
            date_part('epoch', finished_at - queued_at) AS e2e_latency_s
        FROM branches
        WHERE {COUNTED}
    ) AS branch
)
SELECT {BRANCH_KEY}, part, bin, 1::float8 AS weight
FROM finished
CROSS JOIN LATERAL (
    VALUES ({_COUNT}, 0), ({_QUEUE}, queue), ({_TTFT}, ttft), ({_TPOT}, tpot), ({_E2E}, e2e)
) AS fact (part, bin)
WHERE bin IS NOT NULL
"""

SUBJECT = Subject("latency", summed_of_branches(_FACTS))


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """Latency of the branches, and attainment of the jobs, that ended in the range.

    Attributes:
        group: What the row is about; null for all, or for what is not known.
        at: Beginning of the hour or day that the row is about; null for the whole range.
        num_branches: Branches that finished; those that were aborted or failed have no latency.
        num_jobs: Jobs that ended, cancelled ones left out.
        queue_time_s: From submission to the engine until it left the engine's queue.
        ttft_s: From submission to the engine until the first token.
        tpot_s: Per output token after the first.
        e2e_latency_s: From submission to the engine until the end.
        slo_attainment: Fraction of ended jobs with a promise that completed by their deadline.
        num_refused: Submissions that were refused, which missed no deadline.
    """

    group: str | None
    at: datetime | None
    num_branches: int
    num_jobs: int
    queue_time_s: Percentiles
    ttft_s: Percentiles
    tpot_s: Percentiles
    e2e_latency_s: Percentiles
    slo_attainment: float | None
    num_refused: int


def latency_report(
    session: Session,
    selection: Selection,
    *,
    group_by: GroupBy | None = None,
    every: Every | None = None,
) -> list[LatencyRow]:
    """Percentiles of each stage, by group; attainment of jobs and refusals stand beside."""
    stages = read(session, SUBJECT, selection, group_by, every)
    jobs = ended_jobs(session, selection, group_by, every)
    keys = sorted(stages.keys() | jobs.keys(), key=order)
    return [_row(*key, stages.get(key, Sums()), jobs.get(key, Ended(Sums()))) for key in keys]


def _row(group: str | None, at: datetime | None, stages: Sums, jobs: Ended) -> LatencyRow:
    return LatencyRow(
        group=group,
        at=at,
        num_branches=int(stages.counts(_COUNT).get(0, 0)),
        num_jobs=jobs.num_jobs,
        queue_time_s=stages.percentiles(_QUEUE),
        ttft_s=stages.percentiles(_TTFT),
        tpot_s=stages.percentiles(_TPOT),
        e2e_latency_s=stages.percentiles(_E2E),
        slo_attainment=jobs.attainment.value,
        num_refused=jobs.num_refused,
    )

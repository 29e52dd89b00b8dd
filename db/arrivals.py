"""Counts what was submitted of late, by model and by how soon it was due."""

from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter

from sqlalchemy import text
from sqlalchemy.orm import Session

from scheduler.core.snapshot import ARRIVAL_WINDOW_S, Arrivals

_ARRIVALS = text("""
SELECT
    model,
    min(at) AS first_at,
    sum(num_problems) AS num_problems,
    coalesce(sum(num_problems) FILTER (WHERE is_promised), 0) AS num_promised,
    sum(num_problems * given_s) / sum(num_problems) AS given_s
FROM (
    SELECT
        model,
        num_problems - coalesce(
            (SELECT sum(job_parts.num_problems)::int FROM job_parts WHERE job_id = jobs.id), 0
        ) AS num_problems,
        is_promised,
        created_at AS at,
        extract(EPOCH FROM deadline_at - created_at)::float8 AS given_s
    FROM jobs
    UNION ALL
    SELECT
        model,
        job_parts.num_problems,
        is_promised,
        created_at AS at,
        extract(
            EPOCH FROM least(job_parts.deadline_at, jobs.deadline_at) - created_at
        )::float8 AS given_s
    FROM job_parts JOIN jobs ON jobs.id = job_parts.job_id
    UNION ALL
    SELECT
        model,
        num_problems,
        FALSE AS is_promised,
        at,
        extract(EPOCH FROM deadline_at - at)::float8 AS given_s
    FROM refusals
) AS submitted
WHERE at > :since AND num_problems > 0
GROUP BY model, floor(ln(greatest(given_s, 1)) / ln(2))
ORDER BY model, given_s
""")


def read_arrivals(session: Session, now: datetime) -> tuple[tuple[str, Arrivals], ...]:
    """What was submitted within `ARRIVAL_WINDOW_S`, by model.

    Problems with a deadline of their own count by that.
    """
    rows = session.execute(_ARRIVALS, {"since": now - timedelta(seconds=ARRIVAL_WINDOW_S)})
    by_model = {model: list(mine) for model, mine in groupby(rows, key=attrgetter("model"))}
    return tuple(
        (
            model,
            Arrivals.since(
                (now - min(row.first_at for row in mine)).total_seconds(),
                ((row.given_s, row.num_problems) for row in mine),
                ((row.given_s, row.num_promised) for row in mine if row.num_promised),
            ),
        )
        for model, mine in by_model.items()
    )

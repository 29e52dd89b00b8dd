"""SQL that the reports share: dimensions of jobs and branches, and bins of values."""

import math

from scheduler.core.costs import Fate
from scheduler.core.sketch import GAMMA, MAX_BIN, UNIT

DIMENSIONS = ("tenant_id", "model", "engine", "family", "deadline_class", "split")
"""What reports are grouped and filtered by; empty where it is not known."""

COLUMNS = ", ".join(DIMENSIONS)


def deadline_class(created_at: str, deadline_at: str) -> str:
    """SQL for the least of some durations that the time to the deadline fits into."""
    time_s = f"extract(epoch FROM {deadline_at} - {created_at})"
    return (
        f"CASE WHEN {time_s} <= 10 THEN '10s' WHEN {time_s} <= 60 THEN '1m'"
        f" WHEN {time_s} <= 600 THEN '10m' WHEN {time_s} <= 3600 THEN '1h'"
        f" WHEN {time_s} <= 86400 THEN '1d' ELSE 'longer' END"
    )


DEADLINE_CLASSES = ("10s", "1m", "10m", "1h", "1d", "longer")


def hour_of(at: str) -> str:
    """SQL for the beginning of an instant's hour."""
    return f"date_trunc('hour', {at}, 'UTC')"


def sketch_bin(value: str) -> str:
    """SQL for `scheduler.core.sketch.bin_of`; NULL of NULL."""
    size = f"ceil(ln(greatest(abs({value}), {UNIT}) / {UNIT}) / {math.log(GAMMA)!r})"
    return f"(sign({value}) * least({size}, {MAX_BIN}))::int"


BRANCH_KEY = "hour, batch_id, num_speculative_tokens"
"""What the dimensions of a branch follow from."""

# Of `spans` of branches with the same key. A branch's split is the number of branches that its
# batch was planned with and its own draft.
BRANCH_DIMENSIONS = f"""
    jobs.tenant_id,
    jobs.model,
    workers.engine,
    jobs.family,
    {deadline_class("jobs.created_at", "jobs.deadline_at")} AS deadline_class,
    batches.num_branches || 'x' || spans.num_speculative_tokens AS split
"""

ENDED = "branches.finished_at >= :since AND branches.finished_at < :until"
"""SQL for branches that ended in a stretch of time."""

COUNTED = f"{ENDED} AND branches.finish_reason IN ('stop', 'length')"
"""SQL for those of them that count in a vote."""

# A job's split is the last that was in force.
JOB_DIMENSIONS = f"""
    jobs.tenant_id,
    jobs.model,
    coalesce((
        SELECT min(workers.engine)
        FROM batches JOIN workers ON workers.name = batches.worker_name
        WHERE batches.job_id = jobs.id
    ), '') AS engine,
    jobs.family,
    {deadline_class("jobs.created_at", "jobs.deadline_at")} AS deadline_class,
    coalesce(jobs.num_branches || 'x' || jobs.num_speculative_tokens, '') AS split
"""


def held_s(table: str) -> str:
    """SQL for the seconds that a branch held a row; 0 for one that never left the queue."""
    return f"greatest(0, date_part('epoch', {table}.finished_at - {table}.started_at))"


def num_rejected(table: str) -> str:
    """SQL for the draft tokens of a branch that were rejected."""
    return (
        f"(SELECT coalesce(sum(drafted - accepted), 0) FROM unnest({table}.drafted_by_position,"
        f" {table}.accepted_by_position) AS by_position (drafted, accepted))"
    )


# A branch that failed or was lost with its batch is kept until its index runs again, and then as a
# sum on the row of the next try (`retried_*`).
SPENT = f"""
    CASE
        WHEN branches.finish_reason IN ('stop', 'length') THEN '{Fate.COUNTED}'
        WHEN branches.finish_reason = 'abort' AND batches.state <> 'lost' THEN '{Fate.CANCELLED}'
        ELSE '{Fate.LOST}'
    END AS fate,
    {held_s("branches")} AS row_s,
    {num_rejected("branches")} AS num_rejected,
    branches.completion_tokens,
    branches.prompt_tokens,
    branches.retried_row_s,
    branches.retried_tokens
"""
"""What a branch cost, as columns of `branches` and `batches`; see `scheduler.core.costs`."""

SPENT_SUMS = """
    count(*) AS num_branches,
    sum(row_s) AS row_s,
    sum(row_s * num_rejected / nullif(completion_tokens + num_rejected, 0)) AS rejected_row_s,
    sum(completion_tokens + num_rejected) AS tokens,
    sum(num_rejected) AS rejected_tokens,
    sum(prompt_tokens) AS prompt_tokens,
    sum(retried_row_s) AS retried_row_s,
    sum(retried_tokens) AS retried_tokens
"""
"""Sums over the columns of `SPENT`, for branches of one fate."""

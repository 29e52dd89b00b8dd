"""Keep branches and events in a partition for each week in which their jobs were made."""

from datetime import UTC, datetime, timedelta
from itertools import combinations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

# An id of a job is `job_` and a UUIDv7, which begins with its milliseconds since 1970.
_WEEKS = sa.text("""
SELECT DISTINCT date_trunc(
    'week', to_timestamp(('x' || substr(id, 5, 12))::bit(48)::bigint / 1000.0), 'UTC'
)
FROM jobs
WHERE id ~ '^job_[0-9a-f]{32}$'
ORDER BY 1
""")

_DIMENSIONS = ("model", "engine", "family", "deadline_class", "split")

# Sums of days by two dimensions; sums are added by concatenation.
_ADD_UP = f"""
INSERT INTO rollups (subject, detail, period, tenant_id, at, {", ".join(_DIMENSIONS)}, sums)
SELECT subject, '{{detail}}', period, tenant_id, at, {{kept}}, string_agg(sums, '')
FROM rollups
WHERE detail = 'all' AND period = 'day'
GROUP BY subject, period, tenant_id, at, {{by}}
"""


def upgrade() -> None:
    """Copy the rows to their weeks, for which the disk must have room twice."""
    # Names and lengths of weeks are those of UTC, whatever the server's time zone.
    weeks = [week.astimezone(UTC) for week in op.get_bind().scalars(_WEEKS)]
    # Nothing refers to a branch by a number of its own.
    op.drop_column("branches", "id")
    for table in ("branches", "job_events"):
        _create_like(table, "PARTITION BY RANGE (job_id)")
        op.execute(f"CREATE TABLE {table}_default PARTITION OF {table}_new DEFAULT")
        for week in weeks:
            op.execute(
                f"CREATE TABLE {table}_{week:%Y%m%d} PARTITION OF {table}_new"
                f" FOR VALUES FROM ('{_first(week)}') TO ('{_first(week + timedelta(days=7))}')"
            )
        _take_place(table)
    op.create_primary_key("pk_branches", "branches", ["problem_id", "job_id", "branch_index"])
    op.create_primary_key("pk_job_events", "job_events", ["id", "job_id"])
    _finish()
    # Rollups do not know of costs yet. Those of rows that are gone are all there is.
    op.execute("UPDATE history_hours SET state = 'stale' WHERE state = 'rolled'")
    for pair in combinations(_DIMENSIONS, 2):
        kept = [name if name in pair else f"'' AS {name}" for name in _DIMENSIONS]
        op.execute(_ADD_UP.format(detail="+".join(pair), kept=", ".join(kept), by=", ".join(pair)))


def downgrade() -> None:
    """Copy the rows into one table again; branches get new numbers."""
    op.execute("DELETE FROM rollups WHERE subject = 'costs' OR detail LIKE '%+%'")
    for table in ("branches", "job_events"):
        _create_like(table, "")
        _take_place(table)
    op.add_column("branches", sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False))
    op.create_primary_key("pk_branches", "branches", ["id"])
    op.create_unique_constraint(
        op.f("uq_branches_problem_id_branch_index"), "branches", ["problem_id", "branch_index"]
    )
    op.create_primary_key("pk_job_events", "job_events", ["id"])
    _finish()


def _first(at: datetime) -> str:
    return f"job_{max(0, int(at.timestamp())) * 1000:012x}"


def _create_like(table: str, how: str) -> None:
    op.execute(
        f"CREATE TABLE {table}_new (LIKE {table}"
        f" INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING IDENTITY) {how}"
    )


def _take_place(table: str) -> None:
    """Copy the rows before there are indexes, which are faster made at once."""
    op.execute(f"INSERT INTO {table}_new SELECT * FROM {table}")
    op.drop_table(table)
    op.rename_table(f"{table}_new", table)


def _finish() -> None:
    op.execute("ALTER SEQUENCE job_events_new_id_seq RENAME TO job_events_id_seq")
    op.execute("SELECT setval('job_events_id_seq', max(id)) FROM job_events")
    for table, column, other, on_delete in (
        ("branches", "problem_id", "problems", "CASCADE"),
        ("branches", "job_id", "jobs", "CASCADE"),
        ("branches", "batch_id", "batches", None),
        ("job_events", "job_id", "jobs", "CASCADE"),
        ("job_events", "tenant_id", "tenants", None),
    ):
        name = op.f(f"fk_{table}_{column}")
        op.create_foreign_key(name, table, other, [column], ["id"], ondelete=on_delete)
    for table, *columns in (
        ("branches", "job_id", "finished_at"),
        ("branches", "finished_at"),
        ("job_events", "job_id", "id"),
        ("job_events", "tenant_id", "id"),
    ):
        op.create_index(f"ix_{table}_{'_'.join(columns)}", table, columns)

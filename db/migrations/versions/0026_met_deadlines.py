"""Keep whether a job, and each of its parts, met its deadline."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Jobs that ended are told by their deadline, parts of theirs by their problems."""
    for table in ("jobs", "job_parts"):
        op.add_column(table, sa.Column("met_deadline", sa.Boolean))
    op.execute(
        """
        UPDATE job_parts
        SET met_deadline = (
            SELECT bool_and(
                problems.state <> 'expired'
                AND problems.finished_at <= least(job_parts.deadline_at, jobs.deadline_at)
            ) AND bool_or(problems.state <> 'failed')
            FROM problems
            WHERE problems.job_id = job_parts.job_id AND problems.part = job_parts.part
        )
        FROM jobs
        WHERE jobs.id = job_parts.job_id AND jobs.state IN ('completed', 'expired', 'failed')
        """
    )
    op.execute(
        """
        UPDATE jobs
        SET met_deadline = state = 'completed' AND finished_at <= deadline_at AND NOT EXISTS (
            SELECT FROM job_parts WHERE job_id = jobs.id AND NOT met_deadline
        )
        WHERE state IN ('completed', 'expired', 'failed')
        """
    )
    op.create_check_constraint(
        op.f("ck_jobs_met_deadline_iff_ended"),
        "jobs",
        "(state IN ('completed', 'expired', 'failed')) = (met_deadline IS NOT NULL)",
    )


def downgrade() -> None:
    """Tell it by the job's deadline alone again."""
    op.drop_constraint(op.f("ck_jobs_met_deadline_iff_ended"), "jobs")
    for table in ("job_parts", "jobs"):
        op.drop_column(table, "met_deadline")

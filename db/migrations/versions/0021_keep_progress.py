"""Counts of problems: an index to count live jobs on, and final ones kept with ended jobs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Jobs that have ended are counted on the index for ever."""
    op.add_column("jobs", sa.Column("final_progress", postgresql.JSONB))
    op.create_index(
        "ix_problems_progress", "problems", ["job_id", "state", "degraded", "is_correct"]
    )


def downgrade() -> None:
    """Back to counting rows."""
    op.drop_index("ix_problems_progress", "problems")
    op.drop_column("jobs", "final_progress")

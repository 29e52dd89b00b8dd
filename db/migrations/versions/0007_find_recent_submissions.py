"""Find what was submitted of late, which the scheduler asks in every tick."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Index both tables of submissions by time."""
    op.create_index("ix_jobs_created_at", "jobs", ["created_at"])
    op.create_index("ix_refusals_at", "refusals", ["at"])


def downgrade() -> None:
    """Drop the indexes."""
    op.drop_index("ix_refusals_at", "refusals")
    op.drop_index("ix_jobs_created_at", "jobs")

"""Problems may be stored before their job, in one transaction."""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let a transaction put the check off to its end."""
    op.execute("ALTER TABLE problems ALTER CONSTRAINT fk_problems_job_id DEFERRABLE")


def downgrade() -> None:
    """Check at the end of each statement, always."""
    op.execute("ALTER TABLE problems ALTER CONSTRAINT fk_problems_job_id NOT DEFERRABLE")

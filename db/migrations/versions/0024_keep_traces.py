"""Where the trace of a job goes on, for jobs and for OpenAI batches, which make jobs later."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Jobs until now were not traced."""
    for table in ("jobs", "openai_batches"):
        op.add_column(table, sa.Column("traceparent", sa.Text))


def downgrade() -> None:
    """Forget where they go on."""
    for table in ("jobs", "openai_batches"):
        op.drop_column(table, "traceparent")

"""Keep how the branches of a job are prompted, sampled and read."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Jobs until now have the defaults."""
    op.add_column(
        "jobs",
        sa.Column(
            "branch_options", postgresql.JSONB, server_default=sa.text("'{}'"), nullable=False
        ),
    )


def downgrade() -> None:
    """Forget them."""
    op.drop_column("jobs", "branch_options")

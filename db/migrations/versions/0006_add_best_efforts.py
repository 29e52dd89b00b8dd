"""Tell jobs without a promise apart."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every job until now was promised its deadline."""
    op.add_column(
        "jobs",
        sa.Column("is_promised", sa.Boolean, server_default=sa.text("true"), nullable=False),
    )


def downgrade() -> None:
    """Take best efforts for promises."""
    op.drop_column("jobs", "is_promised")

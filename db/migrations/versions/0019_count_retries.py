"""Keep what branches cost that ran again."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What was retried before is not known, and counts as nothing."""
    op.add_column(
        "branches",
        sa.Column("retried_row_s", sa.Double, server_default=sa.text("0"), nullable=False),
    )
    op.add_column(
        "branches",
        sa.Column("retried_tokens", sa.BigInteger, server_default=sa.text("0"), nullable=False),
    )


def downgrade() -> None:
    """Forget it again."""
    op.drop_column("branches", "retried_tokens")
    op.drop_column("branches", "retried_row_s")

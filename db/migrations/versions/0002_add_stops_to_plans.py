"""Add to plans when a problem stops early and how far an open one is extended."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Give jobs and batches the columns; plans made before stop when decided and extend nothing."""
    op.add_column("jobs", sa.Column("stop_gain", sa.Double))
    op.add_column("jobs", sa.Column("plan_max_branches", sa.Integer))
    op.execute(
        "UPDATE jobs SET stop_gain = 0, plan_max_branches = 0 WHERE num_branches IS NOT NULL"
    )
    op.add_column(
        "batches", sa.Column("stop_gain", sa.Double, server_default=sa.text("0"), nullable=False)
    )
    op.add_column(
        "batches",
        sa.Column("max_branches", sa.Integer, server_default=sa.text("0"), nullable=False),
    )


def downgrade() -> None:
    """Drop the columns."""
    for table, columns in (
        ("batches", ("max_branches", "stop_gain")),
        ("jobs", ("plan_max_branches", "stop_gain")),
    ):
        for column in columns:
            op.drop_column(table, column)

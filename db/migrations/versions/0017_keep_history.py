"""Keep sums of hours and days for reports, and rows in use beside each branch."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every hour until now is still to be summed up; branches until now do not say their rows."""
    op.add_column("branches", sa.Column("num_rows", sa.Integer))
    op.create_table(
        "history_hours",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("hour", name="pk_history_hours"),
        sa.CheckConstraint(
            "state IN ('stale', 'rolled', 'pruned')", name=op.f("ck_history_hours_state_known")
        ),
    )
    op.create_index(
        "ix_history_hours_stale",
        "history_hours",
        ["hour"],
        postgresql_where=sa.text("state = 'stale'"),
    )
    op.create_table(
        "rollups",
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("period", sa.Text, nullable=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("model", "engine", "family", "deadline_class", "split")
        ),
        sa.Column("sums", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint(
            "subject",
            "detail",
            "period",
            "tenant_id",
            "at",
            "model",
            "engine",
            "family",
            "deadline_class",
            "split",
            name="pk_rollups",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name="fk_rollups_tenant_id", ondelete="CASCADE"
        ),
        sa.CheckConstraint("period IN ('hour', 'day')", name=op.f("ck_rollups_period_known")),
    )
    op.create_index("ix_rollups_period_at", "rollups", ["period", "at"])
    op.execute(
        "INSERT INTO history_hours (hour, state)"
        " SELECT date_trunc('hour', finished_at, 'UTC'), 'stale' FROM branches"
        " UNION SELECT date_trunc('hour', finished_at, 'UTC'), 'stale' FROM jobs"
        " WHERE finished_at IS NOT NULL"
        " UNION SELECT date_trunc('hour', at, 'UTC'), 'stale' FROM refusals"
    )


def downgrade() -> None:
    """Forget them."""
    op.drop_table("rollups")
    op.drop_table("history_hours")
    op.drop_column("branches", "num_rows")

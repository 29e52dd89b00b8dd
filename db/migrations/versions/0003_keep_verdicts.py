"""Keep what an admission rests on, and the refusals."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the basis of a job's forecast, which older jobs lack, and the table of refusals."""
    op.add_column("jobs", sa.Column("forecast_basis", JSONB))
    op.create_table(
        "refusals",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("num_problems", sa.Integer, nullable=False),
        sa.Column("mean_prompt_tokens", sa.Double, nullable=False),
        sa.Column("max_branches", sa.Integer, nullable=False),
        sa.Column("deadline_at", INSTANT, nullable=False),
        sa.Column("earliest_finish_at", INSTANT),
        sa.CheckConstraint("reason IN ('deadline_infeasible', 'no_capacity')", name="reason_known"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_refusals_tenant_id_id", "refusals", ["tenant_id", "id"])


def downgrade() -> None:
    """Forget both."""
    op.drop_table("refusals")
    op.drop_column("jobs", "forecast_basis")

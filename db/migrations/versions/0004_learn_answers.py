"""Give jobs a task family, and keep what was learned of each model on each family."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the family with its index, and the table of profiles."""
    op.add_column(
        "jobs", sa.Column("family", sa.Text, server_default=sa.text("'any'"), nullable=False)
    )
    op.create_index("ix_jobs_model_family_created_at", "jobs", ["model", "family", "created_at"])
    op.create_table(
        "answer_profiles",
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("family", sa.Text, nullable=False),
        sa.Column("profile", JSONB, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("num_problems", sa.Integer, nullable=False),
        sa.Column("num_branches", sa.Integer, nullable=False),
        sa.Column("fitted_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("model", "family"),
    )


def downgrade() -> None:
    """Forget what was learned, and the families."""
    op.drop_table("answer_profiles")
    op.drop_index("ix_jobs_model_family_created_at", "jobs")
    op.drop_column("jobs", "family")

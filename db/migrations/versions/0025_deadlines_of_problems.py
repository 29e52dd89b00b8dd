"""Problems may have a deadline of their own: those with the same one are a part of their job."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Problems until now are due with their job."""
    op.create_table(
        "job_parts",
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("part", sa.Integer, nullable=False),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("num_problems", sa.Integer, nullable=False),
        sa.Column("admitted_finish_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("admitted_finish_p95_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("admitted_accuracy", sa.Double, nullable=False),
        sa.Column("num_branches", sa.Integer),
        sa.Column("num_speculative_tokens", sa.Integer),
        sa.Column("plan_max_tokens", sa.Integer),
        sa.Column("wave_size", sa.Integer),
        sa.Column("stop_gain", sa.Double),
        sa.Column("plan_max_branches", sa.Integer),
        sa.Column("predicted_finish_at", sa.DateTime(timezone=True)),
        sa.Column("predicted_finish_p95_at", sa.DateTime(timezone=True)),
        sa.Column("predicted_accuracy", sa.Double),
        sa.Column("risk_reason", sa.Text),
        sa.Column("at_risk_since", sa.DateTime(timezone=True)),
        sa.Column("risk_finish_p95_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("part >= 1", name=op.f("ck_job_parts_part_positive")),
        sa.CheckConstraint("num_problems >= 1", name=op.f("ck_job_parts_has_problems")),
        sa.CheckConstraint(
            "(num_branches IS NULL) = (predicted_accuracy IS NULL)",
            name=op.f("ck_job_parts_plan_has_forecast"),
        ),
        sa.CheckConstraint(
            "(risk_reason IS NULL) = (at_risk_since IS NULL)",
            name=op.f("ck_job_parts_risk_has_instant"),
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_parts_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "part", name=op.f("pk_job_parts")),
    )
    for table in ("problems", "batches"):
        op.add_column(table, sa.Column("part", sa.Integer, nullable=False, server_default="0"))
    op.drop_index("ix_problems_pending", "problems")
    op.create_index(
        "ix_problems_pending",
        "problems",
        ["job_id", "part", "position"],
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "ix_problems_open_parts",
        "problems",
        ["job_id", "part", "state"],
        postgresql_where=sa.text("finished_at IS NULL AND part > 0"),
    )


def downgrade() -> None:
    """Forget the deadlines of problems."""
    op.drop_index("ix_problems_open_parts", "problems")
    op.drop_index("ix_problems_pending", "problems")
    for table in ("problems", "batches"):
        op.drop_column(table, "part")
    op.create_index(
        "ix_problems_pending",
        "problems",
        ["job_id", "position"],
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.drop_table("job_parts")

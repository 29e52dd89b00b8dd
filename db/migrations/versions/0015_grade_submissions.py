"""Grade by method, and the answers of others."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every job until now was solved, and graded by equivalence."""
    op.add_column(
        "jobs",
        sa.Column(
            "grading",
            postgresql.JSONB,
            server_default=sa.text("""'{"method": "equivalence"}'"""),
            nullable=False,
        ),
    )
    op.add_column(
        "jobs", sa.Column("solve", sa.Boolean, server_default=sa.text("true"), nullable=False)
    )
    op.add_column("problems", sa.Column("grading", postgresql.JSONB))
    op.add_column("problems", sa.Column("grade_reason", sa.Text))
    op.create_table(
        "submissions",
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("problem_position", sa.Integer, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("answer", sa.Text),
        sa.Column("text", sa.Text),
        sa.Column("grade", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("confidence", sa.Double),
        sa.Column("graded_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("job_id", "problem_position", "position", name="pk_submissions"),
        sa.ForeignKeyConstraint(
            ["job_id", "problem_position"],
            ["problems.job_id", "problems.position"],
            name="fk_submissions_job_id_problem_position",
            ondelete="CASCADE",
        ),
        sa.CheckConstraint(
            "grade IN ('right', 'wrong', 'ungradable')", name=op.f("ck_submissions_grade_known")
        ),
        sa.CheckConstraint(
            "(grade IS NULL) = (reason IS NULL) AND (grade IS NULL) = (graded_at IS NULL)",
            name=op.f("ck_submissions_grade_has_reason"),
        ),
        sa.CheckConstraint(
            "num_nonnulls(answer, text) >= 1", name=op.f("ck_submissions_has_words")
        ),
    )


def downgrade() -> None:
    """Forget them."""
    op.drop_table("submissions")
    op.drop_column("problems", "grade_reason")
    op.drop_column("problems", "grading")
    op.drop_column("jobs", "solve")
    op.drop_column("jobs", "grading")

"""Add the files and batches of the OpenAI API."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0008"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
STATES = (
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
)
LIVE = "state IN ('validating', 'in_progress', 'finalizing', 'cancelling')"


def upgrade() -> None:
    """Create the five tables, and keep the chats that prompts were made from."""
    op.add_column("problems", sa.Column("messages", JSONB))
    op.create_table(
        "files",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("num_bytes", sa.BigInteger, nullable=False),
        sa.Column("num_lines", sa.Integer, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT),
        sa.CheckConstraint("num_bytes >= 0", name="size_known"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_files_tenant_id_created_at", "files", ["tenant_id", "created_at", "id"])
    op.create_index("ix_files_expires_at", "files", ["expires_at"])
    op.create_table(
        "file_chunks",
        sa.Column("file_id", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(["file_id"], ["files.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("file_id", "position"),
    )
    _create_batches()
    op.create_table(
        "openai_batch_jobs",
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("batch_id", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["batch_id"], ["openai_batches.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_index("ix_openai_batch_jobs_batch_id", "openai_batch_jobs", ["batch_id"])
    op.create_table(
        "refused_lines",
        sa.Column("batch_id", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("error", JSONB, nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["openai_batches.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("batch_id", "position"),
    )


def _create_batches() -> None:
    instants = (sa.Column(f"{state}_at", INSTANT) for state in STATES[1:])
    op.create_table(
        "openai_batches",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("request_sha256", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("input_file_id", sa.Text, nullable=False),
        sa.Column("completion_window", sa.Text, nullable=False),
        sa.Column("metadata", JSONB),
        sa.Column("options", JSONB, nullable=False),
        sa.Column("output_expires_after_s", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("errors", JSONB),
        sa.Column("num_lines", sa.Integer, server_default=sa.text("0"), nullable=False),
        sa.Column("num_completed", sa.Integer),
        sa.Column("num_failed", sa.Integer),
        sa.Column("input_tokens", sa.BigInteger),
        sa.Column("output_tokens", sa.BigInteger),
        sa.Column("output_file_id", sa.Text, nullable=False),
        sa.Column("error_file_id", sa.Text, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        *instants,
        sa.Column("epoch", sa.Integer, server_default=sa.text("0"), nullable=False),
        sa.Column("claimed_until", INSTANT),
        sa.CheckConstraint(
            f"state IN ({', '.join(repr(state) for state in STATES)})", name="state_known"
        ),
        sa.CheckConstraint(
            " AND ".join(f"(state <> '{state}' OR {state}_at IS NOT NULL)" for state in STATES[1:]),
            name="state_has_instant",
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("tenant_id", "idempotency_key"),
    )
    op.create_index(
        "ix_openai_batches_tenant_id_created_at",
        "openai_batches",
        ["tenant_id", "created_at", "id"],
    )
    op.create_index(
        "ix_openai_batches_live", "openai_batches", ["state"], postgresql_where=sa.text(LIVE)
    )


def downgrade() -> None:
    """Forget files and batches; their jobs stay."""
    for table in ("refused_lines", "openai_batch_jobs", "openai_batches", "file_chunks", "files"):
        op.drop_table(table)
    op.drop_column("problems", "messages")

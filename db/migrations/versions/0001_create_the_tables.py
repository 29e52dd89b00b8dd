"""Create the tables. Constraints take their full names from the convention in `db.models`."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create every table with its indexes."""
    op.create_table(
        "tenants",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("weight", sa.Double, server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.CheckConstraint("weight > 0", name="weight_positive"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("incarnation", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("engine", sa.Text, nullable=False),
        sa.Column("spec", JSONB, nullable=False),
        sa.Column("latency_profile", JSONB, nullable=False),
        sa.Column("answer_profile", JSONB, nullable=False),
        sa.Column("num_running_branches", sa.Integer, server_default=sa.text("0"), nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("heartbeat_at", INSTANT, nullable=False),
        sa.Column("stopped_at", INSTANT),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index(op.f("ix_workers_model"), "workers", ["model"])
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("key_sha256", sa.Text, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("revoked_at", INSTANT),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key_sha256"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("deadline_at", INSTANT, nullable=False),
        sa.Column("weight", sa.Double, server_default=sa.text("1"), nullable=False),
        sa.Column("max_branches", sa.Integer, nullable=False),
        sa.Column("max_tokens", sa.Integer),
        sa.Column("min_accuracy", sa.Double),
        sa.Column("temperature", sa.Double, nullable=False),
        sa.Column("top_p", sa.Double, nullable=False),
        sa.Column("num_problems", sa.Integer, nullable=False),
        sa.Column("mean_prompt_tokens", sa.Double, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("admitted_finish_at", INSTANT, nullable=False),
        sa.Column("admitted_finish_p95_at", INSTANT, nullable=False),
        sa.Column("admitted_accuracy", sa.Double, nullable=False),
        sa.Column("num_branches", sa.Integer),
        sa.Column("num_speculative_tokens", sa.Integer),
        sa.Column("plan_max_tokens", sa.Integer),
        sa.Column("wave_size", sa.Integer),
        sa.Column("predicted_finish_at", INSTANT),
        sa.Column("predicted_finish_p95_at", INSTANT),
        sa.Column("predicted_accuracy", sa.Double),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("started_at", INSTANT),
        sa.Column("finished_at", INSTANT),
        sa.Column("error", sa.Text),
        sa.CheckConstraint(
            "(state IN ('completed', 'expired', 'failed', 'cancelled')) = (finished_at"
            " IS NOT NULL)",
            name="finished_at_iff_terminal",
        ),
        sa.CheckConstraint(
            "state <> 'running' OR started_at IS NOT NULL", name="started_at_when_running"
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'completed', 'expired', 'failed',"
            " 'cancelling', 'cancelled')",
            name="state_known",
        ),
        sa.CheckConstraint(
            "(num_branches IS NULL) = (predicted_accuracy IS NULL)", name="plan_has_forecast"
        ),
        sa.CheckConstraint("max_branches >= 1", name="max_branches_positive"),
        sa.CheckConstraint("num_problems >= 1", name="has_problems"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_jobs_finished_at", "jobs", ["finished_at"])
    op.create_index(
        "ix_jobs_live", "jobs", ["deadline_at"], postgresql_where=sa.text("finished_at IS NULL")
    )
    op.create_index("ix_jobs_tenant_id_created_at", "jobs", ["tenant_id", "created_at"])
    op.create_table(
        "batches",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("worker_name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("epoch", sa.Integer, server_default=sa.text("0"), nullable=False),
        sa.Column("num_problems", sa.Integer, nullable=False),
        sa.Column("num_branches", sa.Integer, nullable=False),
        sa.Column("num_speculative_tokens", sa.Integer, nullable=False),
        sa.Column("max_tokens", sa.Integer, nullable=False),
        sa.Column("wave_size", sa.Integer, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("sent_at", INSTANT),
        sa.Column("claimed_at", INSTANT),
        sa.Column("finished_at", INSTANT),
        sa.Column("lease_owner", sa.Text),
        sa.Column("lease_expires_at", INSTANT),
        sa.CheckConstraint(
            "(state IN ('done', 'lost', 'cancelled')) = (finished_at IS NOT NULL)",
            name="finished_at_iff_terminal",
        ),
        sa.CheckConstraint(
            "state <> 'claimed' OR (lease_owner IS NOT NULL AND lease_expires_at IS NOT"
            " NULL AND claimed_at IS NOT NULL)",
            name="claimed_has_lease",
        ),
        sa.CheckConstraint(
            "state IN ('planned', 'claimed', 'done', 'lost', 'cancelled')", name="state_known"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["worker_name"], ["workers.name"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_batches_job_id", "batches", ["job_id"])
    op.create_index(
        "ix_batches_live",
        "batches",
        ["worker_name"],
        postgresql_where=sa.text("state IN ('planned', 'claimed')"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("request_sha256", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("tenant_id", "key"),
    )
    op.create_table(
        "job_events",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("data", JSONB, server_default=sa.text("'{}'"), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_job_events_job_id_at", "job_events", ["job_id", "at"])
    op.create_table(
        "problems",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("reference_answer", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("batch_id", sa.BigInteger),
        sa.Column("num_branches", sa.Integer),
        sa.Column("num_speculative_tokens", sa.Integer),
        sa.Column("max_tokens", sa.Integer),
        sa.Column("predicted_finish_at", INSTANT),
        sa.Column("predicted_accuracy", sa.Double),
        sa.Column("num_branches_finished", sa.Integer, server_default=sa.text("0"), nullable=False),
        sa.Column("answer", sa.Text),
        sa.Column("vote_share", sa.Double),
        sa.Column("is_correct", sa.Boolean),
        sa.Column("degraded", sa.Boolean, server_default=sa.text("false"), nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("dispatched_at", INSTANT),
        sa.Column("finished_at", INSTANT),
        sa.CheckConstraint(
            "(state = 'answered') = (vote_share IS NOT NULL)", name="answered_has_vote"
        ),
        sa.CheckConstraint(
            "(state IN ('answered', 'expired', 'failed', 'cancelled')) = (finished_at IS NOT NULL)",
            name="finished_at_iff_terminal",
        ),
        sa.CheckConstraint(
            "(state IN ('dispatched', 'running')) <= (batch_id IS NOT NULL)",
            name="in_flight_has_batch",
        ),
        sa.CheckConstraint("NOT degraded OR state = 'answered'", name="degraded_is_answered"),
        sa.CheckConstraint("state <> 'failed' OR error IS NOT NULL", name="failed_has_error"),
        sa.CheckConstraint("state <> 'pending' OR batch_id IS NULL", name="pending_has_no_batch"),
        sa.CheckConstraint(
            "state IN ('pending', 'dispatched', 'running', 'answered', 'expired',"
            " 'failed', 'cancelled')",
            name="state_known",
        ),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"]),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_id", "key"),
        sa.UniqueConstraint("job_id", "position"),
    )
    op.create_index("ix_problems_batch_id", "problems", ["batch_id"])
    op.create_index(
        "ix_problems_open",
        "problems",
        ["job_id", "state"],
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index(
        "ix_problems_pending",
        "problems",
        ["job_id", "position"],
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_table(
        "branches",
        sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False),
        sa.Column("problem_id", sa.BigInteger, nullable=False),
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("batch_id", sa.BigInteger, nullable=False),
        sa.Column("branch_index", sa.Integer, nullable=False),
        sa.Column("worker_name", sa.Text, nullable=False),
        sa.Column("num_speculative_tokens", sa.Integer, nullable=False),
        sa.Column("finish_reason", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("answer", sa.Text),
        sa.Column("vote_class", sa.Integer),
        sa.Column("is_correct", sa.Boolean),
        sa.Column("queued_at", INSTANT, nullable=False),
        sa.Column("started_at", INSTANT),
        sa.Column("finished_at", INSTANT, nullable=False),
        sa.Column("queue_time_s", sa.Double, nullable=False),
        sa.Column("ttft_s", sa.Double),
        sa.Column("decode_time_s", sa.Double),
        sa.Column("prompt_tokens", sa.Integer, nullable=False),
        sa.Column("completion_tokens", sa.Integer, nullable=False),
        sa.Column("num_steps", sa.Integer, nullable=False),
        sa.Column("drafted_by_position", sa.ARRAY(sa.Integer), nullable=False),
        sa.Column("accepted_by_position", sa.ARRAY(sa.Integer), nullable=False),
        sa.Column("error", sa.Text),
        sa.CheckConstraint(
            "finish_reason IN ('stop', 'length', 'abort', 'error')", name="finish_reason_known"
        ),
        sa.CheckConstraint(
            "vote_class IS NULL OR finish_reason IN ('stop', 'length')",
            name="vote_class_of_finished",
        ),
        sa.CheckConstraint("(vote_class IS NULL) = (answer IS NULL)", name="vote_class_iff_answer"),
        sa.CheckConstraint(
            "cardinality(accepted_by_position) = cardinality(drafted_by_position)",
            name="positions_match",
        ),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"]),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["problem_id"], ["problems.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("problem_id", "branch_index"),
    )
    op.create_index("ix_branches_finished_at", "branches", ["finished_at"])
    op.create_index("ix_branches_job_id_finished_at", "branches", ["job_id", "finished_at"])


def downgrade() -> None:
    """Drop every table, those that refer to others first."""
    # Dropping a table drops its indexes.
    for table in (
        "branches",
        "problems",
        "job_events",
        "idempotency_keys",
        "batches",
        "jobs",
        "api_keys",
        "workers",
        "tenants",
    ):
        op.drop_table(table)

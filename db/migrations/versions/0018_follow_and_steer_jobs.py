"""Order events for those who follow them; keep deadlines at risk, requests and retries."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Events get the tenant of their job; no job was told to be at risk or is a retry so far."""
    op.add_column("job_events", sa.Column("tenant_id", sa.Text))
    op.execute("UPDATE job_events SET tenant_id = jobs.tenant_id FROM jobs WHERE jobs.id = job_id")
    op.alter_column("job_events", "tenant_id", nullable=False)
    op.create_foreign_key("fk_job_events_tenant_id", "job_events", "tenants", ["tenant_id"], ["id"])
    op.create_index("ix_job_events_job_id_id", "job_events", ["job_id", "id"])
    op.create_index("ix_job_events_tenant_id_id", "job_events", ["tenant_id", "id"])
    op.drop_index("ix_job_events_job_id_at", "job_events")
    op.add_column("jobs", sa.Column("risk_reason", sa.Text))
    op.add_column("jobs", sa.Column("at_risk_since", sa.DateTime(timezone=True)))
    op.add_column("jobs", sa.Column("risk_finish_p95_at", sa.DateTime(timezone=True)))
    op.create_check_constraint(
        op.f("ck_jobs_risk_has_instant"),
        "jobs",
        "(risk_reason IS NULL) = (at_risk_since IS NULL)",
    )
    op.add_column("jobs", sa.Column("request_sha256", sa.Text))
    op.add_column("jobs", sa.Column("retry_of", sa.Text))
    op.create_foreign_key(
        "fk_jobs_retry_of", "jobs", "jobs", ["retry_of"], ["id"], ondelete="SET NULL"
    )


def downgrade() -> None:
    """Forget them, and order events of a job by their instants again."""
    for name in ("retry_of", "request_sha256"):
        op.drop_column("jobs", name)
    op.drop_constraint(op.f("ck_jobs_risk_has_instant"), "jobs")
    for name in ("risk_finish_p95_at", "at_risk_since", "risk_reason"):
        op.drop_column("jobs", name)
    op.create_index("ix_job_events_job_id_at", "job_events", ["job_id", "at"])
    op.drop_index("ix_job_events_tenant_id_id", "job_events")
    op.drop_index("ix_job_events_job_id_id", "job_events")
    op.drop_column("job_events", "tenant_id")

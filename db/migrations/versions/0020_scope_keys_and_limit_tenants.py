"""Scopes, expiry and rotation of keys, and what a tenant may have queued."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Keys until now could do all there was: submit and read."""
    op.add_column(
        "api_keys",
        sa.Column(
            "scopes",
            postgresql.ARRAY(sa.Text),
            server_default=sa.text("'{submit,read}'"),
            nullable=False,
        ),
    )
    for name in ("expires_at", "last_used_at", "previous_until"):
        op.add_column("api_keys", sa.Column(name, sa.DateTime(timezone=True)))
    op.add_column("api_keys", sa.Column("previous_sha256", sa.Text))
    op.create_unique_constraint(
        op.f("uq_api_keys_previous_sha256"), "api_keys", ["previous_sha256"]
    )
    op.create_check_constraint(
        op.f("ck_api_keys_scopes_known"),
        "api_keys",
        "scopes <@ ARRAY['submit', 'read', 'admin'] AND cardinality(scopes) >= 1",
    )
    op.create_check_constraint(
        op.f("ck_api_keys_previous_has_end"),
        "api_keys",
        "(previous_sha256 IS NULL) = (previous_until IS NULL)",
    )
    op.create_index("ix_api_keys_tenant_id", "api_keys", ["tenant_id"])
    op.add_column("tenants", sa.Column("max_queued_tokens", sa.BigInteger))
    op.create_check_constraint(
        op.f("ck_tenants_quota_not_negative"), "tenants", "max_queued_tokens >= 0"
    )
    op.add_column(
        "jobs",
        sa.Column("tokens_per_problem", sa.Double, server_default=sa.text("0"), nullable=False),
    )
    # An upper bound: what branches were expected to need was not kept.
    op.execute(
        "UPDATE jobs SET tokens_per_problem ="
        " mean_prompt_tokens + coalesce(num_branches * plan_max_tokens, 0)"
        " WHERE finished_at IS NULL"
    )


def downgrade() -> None:
    """Forget them."""
    op.drop_column("jobs", "tokens_per_problem")
    op.drop_column("tenants", "max_queued_tokens")
    op.drop_index("ix_api_keys_tenant_id", "api_keys")
    op.drop_constraint(op.f("ck_api_keys_previous_has_end"), "api_keys")
    op.drop_constraint(op.f("ck_api_keys_scopes_known"), "api_keys")
    for name in ("scopes", "expires_at", "last_used_at", "previous_until", "previous_sha256"):
        op.drop_column("api_keys", name)

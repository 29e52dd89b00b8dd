"""Count the workers that were lost on each problem."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the count."""
    op.add_column(
        "problems",
        sa.Column("num_losses", sa.Integer, server_default=sa.text("0"), nullable=False),
    )


def downgrade() -> None:
    """Forget the losses."""
    op.drop_column("problems", "num_losses")

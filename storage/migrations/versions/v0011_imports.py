"""Imports of markets that the service was asked for."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add them."""
    op.create_table(
        "imports",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("market", sa.Text, nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("executor", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("told", sa.Text, nullable=False),
        sa.Column("rows_done", sa.BigInteger),
        sa.Column("rows_total", sa.BigInteger),
        sa.Column("error", sa.Text),
        sa.Column("report", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="imports_pk"),
        sa.CheckConstraint("status IN ('running', 'done', 'failed')", name=op.f("imports_status_ck")),
    )
    op.create_index("imports_status", "imports", ["status", "market"])

"""Imported alphas, and the limits that a run's gate had."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add a table and a column; earlier runs had the default limits."""
    op.add_column("runs", sa.Column("limits", sa.Text, nullable=False, server_default="{}"))
    op.create_table(
        "alphas",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("formula", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="alphas_pk"),
    )

"""Runs that outlive their process: who works on them and since when, and events that are told once."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add heartbeats of executors, what a run has worked and been asked to stop, and keys of events."""
    op.create_table(
        "executors",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("beat_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="executors_pk"),
    )
    op.add_column("runs", sa.Column("worked", sa.Double, nullable=False, server_default="0"))
    op.add_column("runs", sa.Column("cancelling", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("runs", sa.Column("progress", sa.Text, nullable=False, server_default="null"))
    op.add_column("events", sa.Column("key", sa.Text))
    op.create_index("events_key", "events", ["run_id", "key"], unique=True)

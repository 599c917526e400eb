"""Runs that outlive their process: who works on them and for how long, and events that are told once."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_WORKED = {
    "sqlite": "(julianday(finished_at) - julianday(started_at)) * 86400",
    "postgresql": "EXTRACT(EPOCH FROM finished_at - started_at)",
}


def upgrade() -> None:
    """Add heartbeats of executors, what a run has worked and been asked to stop, and keys of events."""
    op.create_table(
        "executors",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("beats", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="executors_pk"),
    )
    op.add_column("runs", sa.Column("seconds", sa.Double, nullable=False, server_default="0"))
    op.add_column("runs", sa.Column("cancelling", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("runs", sa.Column("progress", sa.Text, nullable=False, server_default="null"))
    worked = _WORKED[op.get_bind().dialect.name]
    op.execute(f"UPDATE runs SET seconds = {worked} WHERE finished_at IS NOT NULL AND started_at IS NOT NULL")  # noqa: S608
    op.add_column("events", sa.Column("key", sa.Text))
    op.create_index("events_key", "events", ["run_id", "key"], unique=True)

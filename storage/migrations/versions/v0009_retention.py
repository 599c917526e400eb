"""What is kept of runs whose events are removed, and indices by which the server's figures are counted."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add what a run's events tell of it in sum, and when they were removed."""
    op.add_column("runs", sa.Column("final_rounds", sa.Integer))
    op.add_column("runs", sa.Column("final_candidates", sa.Integer))
    op.add_column("runs", sa.Column("event_bytes", sa.BigInteger))
    op.add_column("runs", sa.Column("pruned_at", sa.DateTime(timezone=True)))
    op.drop_index("events_type", "events")
    op.create_index("events_type", "events", ["type", "run_id"])
    op.create_index("candidates_accepted", "candidates", ["accepted"])
    op.create_index("model_calls_outcome", "model_calls", ["agent", "failure", "input_tokens", "output_tokens", "usd"])

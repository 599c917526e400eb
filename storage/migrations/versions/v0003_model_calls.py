"""What models were asked, and what it took."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add a table; runs before it have no calls."""
    op.create_table(
        "model_calls",
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("input_tokens", sa.Integer, nullable=False),
        sa.Column("output_tokens", sa.Integer, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("failure", sa.Text),
        sa.PrimaryKeyConstraint("run_id", "position", name="model_calls_pk"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="model_calls_run_id_fk"),
    )

"""Who asked for a run, where a factor comes from, and what model calls cost and said."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add columns; rows before them are of the user ``local``, without lineage, price and answer."""
    op.add_column("runs", sa.Column("user", sa.Text, nullable=False, server_default="local"))
    op.add_column("runs", sa.Column("stopped", sa.Text))
    op.create_index("runs_user", "runs", ["user", "created_at"])
    op.add_column("candidates", sa.Column("variables", sa.Text, nullable=False, server_default="[]"))
    op.add_column("factors", sa.Column("lineage", sa.Text, nullable=False, server_default="null"))
    op.add_column("model_calls", sa.Column("step", sa.Text, nullable=False, server_default=""))
    op.add_column("model_calls", sa.Column("template", sa.Text, nullable=False, server_default=""))
    op.add_column("model_calls", sa.Column("usd", sa.Double))
    op.add_column("model_calls", sa.Column("answer", sa.Text))
    op.create_index("model_calls_step", "model_calls", ["run_id", "step", "prompt"])

"""Evaluations of runs that have begun, so that they count before they are made."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add them."""
    op.create_table(
        "begun_evaluations",
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("candidate_id", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "candidate_id", name="begun_evaluations_pk"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="begun_evaluations_run_id_fk"),
    )

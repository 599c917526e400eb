"""The ledger of trials and the log of openings, neither of which can be changed; the evidence of factors."""

import sqlalchemy as sa
from alembic import op

from storage.migrations.triggers import append_only

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the tables, and columns that are empty for what was measured before there was a ledger."""
    for table, columns in {
        "evaluations": {"evidence": "null", "standing": "null", "memory": "[]"},
        "factors": {"evidence": "null", "standing": "null", "certificate": "null"},
    }.items():
        for name, default in columns.items():
            op.add_column(table, sa.Column(name, sa.Text, nullable=False, server_default=default))
    op.create_table(
        "trials",
        sa.Column("market", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("factor_id", sa.Text, nullable=False),
        sa.Column("formula", sa.Text, nullable=False),
        sa.Column("snapshot", sa.Text, nullable=False),
        sa.Column("universe", sa.Text, nullable=False),
        sa.Column("horizon", sa.Integer, nullable=False),
        sa.Column("splits", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("standing", sa.Text, nullable=False),
        sa.Column("discovery", sa.Boolean, nullable=False),
        sa.Column("rank_ic", sa.LargeBinary, nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("market", "number", name="trials_pk"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="trials_run_id_fk"),
        sa.UniqueConstraint("market", "formula", "snapshot", "universe", "horizon", name="trials_formula_uq"),
    )
    op.create_index("trials_factor", "trials", ["factor_id", "snapshot"])
    op.create_table(
        "openings",
        sa.Column("factor_id", sa.Text, nullable=False),
        sa.Column("snapshot", sa.Text, nullable=False),
        sa.Column("market", sa.Text, nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("evaluation", sa.Text, nullable=False),
        sa.Column("checks", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("factor_id", "snapshot", name="openings_pk"),
        sa.ForeignKeyConstraint(["factor_id"], ["factors.id"], name="openings_factor_id_fk"),
        sa.CheckConstraint("status IN ('live', 'rejected')", name=op.f("openings_status_ck")),
    )
    op.create_index("openings_market", "openings", ["market", "opened_at"])
    append_only("trials", ["market", "number"], ["market", "formula", "snapshot", "universe", "horizon"])
    append_only("openings", ["factor_id", "snapshot"])

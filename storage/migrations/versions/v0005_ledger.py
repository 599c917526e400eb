"""The ledger of trials and the log of openings, neither of which can be changed; the evidence of factors."""

import sqlalchemy as sa
from alembic import op

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
    _append_only("trials", ["market", "number"], ["market", "formula", "snapshot", "universe", "horizon"])
    _append_only("openings", ["factor_id", "snapshot"])


def _append_only(table: str, *keys: list[str]) -> None:
    """Have the database refuse to change or remove a row, or to put another in its place."""
    if op.get_bind().dialect.name == "sqlite":
        for act in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} can only be added to'); END"
            )
        # INSERT OR REPLACE removes the row in its way and fires no trigger of that.
        same = (" AND ".join(f"{name} = NEW.{name}" for name in key) for key in (*keys, ["rowid"]))
        taken = f"SELECT 1 FROM {table} WHERE {' OR '.join(f'({one})' for one in same)}"  # noqa: S608
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN EXISTS ({taken}) "
            f"BEGIN SELECT RAISE(ABORT, '{table} can only be added to'); END"
        )
        return
    op.execute(
        f"CREATE FUNCTION {table}_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{table} can only be added to'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_append_only()"
    )

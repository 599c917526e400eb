"""Runs, events, candidates, evaluations and the library of factors."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables, those referred to first."""
    _runs()
    _trials()
    _library()


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("direction", sa.Text, nullable=False),
        sa.Column("market", sa.Text, nullable=False),
        sa.Column("universe", sa.Text, nullable=False),
        sa.Column("snapshot", sa.Text, nullable=False),
        sa.Column("seed", sa.Integer, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("budget", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("error", sa.Text),
        sa.Column("executor", sa.Text),
        sa.PrimaryKeyConstraint("id", name="runs_pk"),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name=op.f("runs_status_ck")
        ),
    )
    op.create_index("runs_status", "runs", ["status"])
    op.create_index("runs_recipe", "runs", ["market", "seed", "snapshot"])
    op.create_table(
        "events",
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "seq", name="events_pk"),
        sa.CheckConstraint("seq >= 1", name=op.f("events_seq_ck")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="events_run_id_fk"),
    )
    op.create_index("events_type", "events", ["run_id", "type"])


def _trials() -> None:
    op.create_table(
        "candidates",
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("hypothesis_id", sa.Text, nullable=False),
        sa.Column("hypothesis", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("formula", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("parents", sa.Text, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("admission", sa.Text, nullable=False),
        sa.Column("accepted", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "id", name="candidates_pk"),
        sa.UniqueConstraint("run_id", "position", name="candidates_position_uq"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="candidates_run_id_fk"),
    )
    op.create_table(
        "evaluations",
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("candidate_id", sa.Text, nullable=False),
        sa.Column("formula", sa.Text, nullable=False),
        sa.Column("snapshot", sa.Text, nullable=False),
        sa.Column("universe", sa.Text, nullable=False),
        sa.Column("horizon", sa.Integer, nullable=False),
        sa.Column("splits", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "candidate_id", name="evaluations_pk"),
        sa.ForeignKeyConstraint(
            ["run_id", "candidate_id"], ["candidates.run_id", "candidates.id"], name="evaluations_run_id_fk"
        ),
    )


def _library() -> None:
    op.create_table(
        "factors",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("market", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("formula", sa.Text, nullable=False),
        sa.Column("hypothesis", sa.Text, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("snapshot", sa.Text, nullable=False),
        sa.Column("universe", sa.Text, nullable=False),
        sa.Column("horizon", sa.Integer, nullable=False),
        sa.Column("penalty", sa.Double, nullable=False),
        sa.Column("splits", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="factors_pk"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="factors_run_id_fk"),
    )
    op.create_index("factors_market", "factors", ["market", "created_at", "id"])
    op.create_table(
        "run_factors",
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("factor_id", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "factor_id", name="run_factors_pk"),
        sa.UniqueConstraint("run_id", "position", name="run_factors_position_uq"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="run_factors_run_id_fk"),
        sa.ForeignKeyConstraint(["factor_id"], ["factors.id"], name="run_factors_factor_id_fk"),
    )

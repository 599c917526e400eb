"""The team: tokens, sessions, quotas, keys of requests, private runs, retired factors, and the audit log."""

import sqlalchemy as sa
from alembic import op

from storage.migrations.triggers import append_only

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the tables; all runs that there are can be seen by the team."""
    op.add_column("runs", sa.Column("private", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.Column("used_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="tokens_pk"),
        sa.CheckConstraint("role IN ('viewer', 'researcher', 'admin')", name=op.f("tokens_role_ck")),
    )
    op.create_table(
        "sessions",
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("token_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("hash", name="sessions_pk"),
        sa.ForeignKeyConstraint(["token_id"], ["tokens.id"], name="sessions_token_id_fk"),
    )
    op.create_table(
        "quotas",
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("quota", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("user", name="quotas_pk"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user", "key", name="idempotency_keys_pk"),
    )
    _add_logs()


def _add_logs() -> None:
    """Add what can only be added to."""
    op.create_table(
        "retirements",
        sa.Column("factor_id", sa.Text, nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("factor_id", name="retirements_pk"),
        sa.ForeignKeyConstraint(["factor_id"], ["factors.id"], name="retirements_factor_id_fk"),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("token", sa.Text),
        sa.Column("act", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("client", sa.Text),
        sa.Column("request_id", sa.Text),
        sa.PrimaryKeyConstraint("id", name="audit_pk"),
    )
    op.create_index("audit_user", "audit", ["user", "act", "at"])
    append_only("retirements", ["factor_id"])
    append_only("audit", ["id"])

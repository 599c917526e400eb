"""The tables of the records: runs, their events and candidates, the library, alphas, the team and what it has done.

``trials``, ``openings``, ``retirements`` and ``audit`` can be added to and not changed: what has been tried, seen and
done stays so. Triggers of the database see to that.

A change here needs a revision in ``storage/migrations/versions``; a test holds the two together.
"""

from datetime import UTC, datetime
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
)

_ANY: Final = TypeAdapter[Any](Any)


class Moment(TypeDecorator[datetime]):
    """An aware datetime, kept in UTC with microseconds; ``ValueError`` for one without a zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002, D102
        if value is not None and value.tzinfo is None:
            raise ValueError("expected a datetime with a time zone")
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002, D102
        # SQLite has no zones: what it gives back is the UTC that went in.
        return value and (value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC))


class Document(TypeDecorator[Any]):
    """JSON text of plain values or pydantic models; read back as plain values.

    NaN and infinities, which JSON lacks, are the strings ``NaN``, ``Infinity`` and ``-Infinity``: a model's
    float field reads them back as the numbers they were.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: object, dialect: Dialect) -> str:  # noqa: ARG002, D102
        # Models are unfolded first: one serialised whole would lose its NaN to null.
        return to_json(_ANY.dump_python(value), inf_nan_mode="strings").decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ANN401, ARG002, D102
        return value if value is None else from_json(value)


metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pk",
        "fk": "%(table_name)s_%(column_0_name)s_fk",
        "uq": "%(table_name)s_%(column_1_name)s_uq",
        "ck": "%(table_name)s_%(constraint_name)s_ck",
    }
)

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("direction", Text, nullable=False),
    Column("market", Text, nullable=False),
    Column("universe", Text, nullable=False),
    Column("snapshot", Text, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("model", Text, nullable=False),
    Column("budget", Document, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("started_at", Moment),
    Column("finished_at", Moment),
    Column("error", Text),
    Column("executor", Text),
    Column("limits", Document, nullable=False, server_default="{}"),
    Column("user", Text, nullable=False, server_default="local"),
    Column("stopped", Text),
    Column("seconds", Double, nullable=False, server_default="0"),
    Column("cancelling", Boolean, nullable=False, server_default=false()),
    Column("progress", Document, nullable=False, server_default="null"),
    Column("private", Boolean, nullable=False, server_default=false()),
    Column("final_rounds", Integer),
    Column("final_candidates", Integer),
    Column("event_bytes", BigInteger),
    Column("pruned_at", Moment),
    CheckConstraint("status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name="status"),
    Index("runs_status", "status"),
    Index("runs_recipe", "market", "seed", "snapshot"),
    Index("runs_user", "user", "created_at"),
)

events = Table(
    "events",
    metadata,
    Column("run_id", Text, ForeignKey("runs.id"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("type", Text, nullable=False),
    Column("data", Document, nullable=False),
    Column("key", Text),
    CheckConstraint("seq >= 1", name="seq"),
    Index("events_type", "type", "run_id"),
    Index("events_key", "run_id", "key", unique=True),
)

executors = Table(
    "executors",
    metadata,
    Column("id", Text, primary_key=True),
    Column("beats", Integer, nullable=False),
)

candidates = Table(
    "candidates",
    metadata,
    Column("run_id", Text, ForeignKey("runs.id"), primary_key=True),
    Column("id", Text, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("round", Integer, nullable=False),
    Column("hypothesis_id", Text, nullable=False),
    Column("hypothesis", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("formula", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("parents", Document, nullable=False),
    Column("variables", Document, nullable=False, server_default="[]"),
    Column("verdict", Document, nullable=False),
    Column("admission", Document, nullable=False),
    Column("accepted", Boolean, nullable=False),
    UniqueConstraint("run_id", "position"),
    Index("candidates_accepted", "accepted"),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("candidate_id", Text, primary_key=True),
    Column("formula", Text, nullable=False),
    Column("snapshot", Text, nullable=False),
    Column("universe", Text, nullable=False),
    Column("horizon", Integer, nullable=False),
    Column("splits", Document, nullable=False),
    Column("evidence", Document, nullable=False, server_default="null"),
    Column("standing", Document, nullable=False, server_default="null"),
    Column("memory", Document, nullable=False, server_default="[]"),
    ForeignKeyConstraint(["run_id", "candidate_id"], ["candidates.run_id", "candidates.id"]),
)

factors = Table(
    "factors",
    metadata,
    Column("id", Text, primary_key=True),
    Column("market", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("formula", Text, nullable=False),
    Column("hypothesis", Text, nullable=False),
    Column("run_id", Text, ForeignKey("runs.id"), nullable=False),
    Column("snapshot", Text, nullable=False),
    Column("universe", Text, nullable=False),
    Column("horizon", Integer, nullable=False),
    Column("penalty", Double, nullable=False),
    Column("splits", Document, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("lineage", Document, nullable=False, server_default="null"),
    Column("evidence", Document, nullable=False, server_default="null"),
    Column("standing", Document, nullable=False, server_default="null"),
    Column("certificate", Document, nullable=False, server_default="null"),
    Index("factors_market", "market", "created_at", "id"),
)

begun_evaluations = Table(
    "begun_evaluations",
    metadata,
    Column("run_id", Text, ForeignKey("runs.id"), primary_key=True),
    Column("candidate_id", Text, primary_key=True),
)

run_factors = Table(
    "run_factors",
    metadata,
    Column("run_id", Text, ForeignKey("runs.id"), primary_key=True),
    Column("factor_id", Text, ForeignKey("factors.id"), primary_key=True),
    Column("position", Integer, nullable=False),
    UniqueConstraint("run_id", "position"),
)

model_calls = Table(
    "model_calls",
    metadata,
    Column("run_id", Text, ForeignKey("runs.id"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("agent", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("failure", Text),
    Column("step", Text, nullable=False, server_default=""),
    Column("template", Text, nullable=False, server_default=""),
    Column("usd", Double),
    Column("answer", Text),
    Index("model_calls_step", "run_id", "step", "prompt"),
    Index("model_calls_outcome", "agent", "failure", "input_tokens", "output_tokens", "usd"),
)

alphas = Table(
    "alphas",
    metadata,
    Column("name", Text, primary_key=True),
    Column("formula", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
)

trials = Table(
    "trials",
    metadata,
    Column("market", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("factor_id", Text, nullable=False),
    Column("formula", Text, nullable=False),
    Column("snapshot", Text, nullable=False),
    Column("universe", Text, nullable=False),
    Column("horizon", Integer, nullable=False),
    Column("splits", Document, nullable=False),
    Column("evidence", Document, nullable=False),
    Column("standing", Document, nullable=False),
    Column("discovery", Boolean, nullable=False),
    Column("rank_ic", LargeBinary, nullable=False),
    Column("user", Text, nullable=False),
    Column("run_id", Text, ForeignKey("runs.id")),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("market", "formula", "snapshot", "universe", "horizon"),
    Index("trials_factor", "factor_id", "snapshot"),
)

openings = Table(
    "openings",
    metadata,
    Column("factor_id", Text, ForeignKey("factors.id"), primary_key=True),
    Column("snapshot", Text, primary_key=True),
    Column("market", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("opened_at", Moment, nullable=False),
    Column("evaluation", Document, nullable=False),
    Column("checks", Document, nullable=False),
    Column("status", Text, nullable=False),
    CheckConstraint("status IN ('live', 'rejected')", name="status"),
    Index("openings_market", "market", "opened_at"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("hash", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment),
    Column("revoked_at", Moment),
    Column("used_at", Moment),
    CheckConstraint("role IN ('viewer', 'researcher', 'admin')", name="role"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("token_id", Text, ForeignKey("tokens.id"), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
)

quotas = Table(
    "quotas",
    metadata,
    Column("user", Text, primary_key=True),
    Column("quota", Document, nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("user", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
)

imports = Table(
    "imports",
    metadata,
    Column("id", Text, primary_key=True),
    Column("market", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("request", Document, nullable=False),
    Column("status", Text, nullable=False),
    Column("executor", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("finished_at", Moment),
    Column("told", Document, nullable=False),
    Column("rows_done", BigInteger),
    Column("rows_total", BigInteger),
    Column("error", Text),
    Column("report", Document, nullable=False),
    CheckConstraint("status IN ('running', 'done', 'failed')", name="status"),
    Index("imports_status", "status", "market"),
)

retirements = Table(
    "retirements",
    metadata,
    Column("factor_id", Text, ForeignKey("factors.id"), primary_key=True),
    Column("user", Text, nullable=False),
    Column("retired_at", Moment, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("user", Text, nullable=False),
    Column("token", Text),
    Column("act", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("client", Text),
    Column("request_id", Text),
    Index("audit_user", "user", "act", "at"),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("events", Document, nullable=False),
    Column("secret", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("leased_until", Moment, nullable=False),
    Column("failing_since", Moment),
    Column("disabled_at", Moment),
    Column("disabled_because", Text),
    Index("webhooks_user", "user"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("webhook_id", Text, ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("run_id", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Moment),
    Column("delivered_at", Moment),
    Column("error", Text),
    # A delivery goes with its event: what is kept of runs is decided in one place.
    ForeignKeyConstraint(["run_id", "seq"], ["events.run_id", "events.seq"], ondelete="CASCADE"),
    UniqueConstraint("webhook_id", "run_id", "seq"),
    Index("deliveries_due", "webhook_id", "next_at"),
    Index("deliveries_event", "run_id", "seq"),
)

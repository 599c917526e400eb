"""The audit log: who did what and when. It can be added to and not changed; triggers of the database see to that."""

from datetime import UTC, datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import Connection, Engine, func, insert, select
from uuid_utils import uuid7

from storage import rows
from storage.engine import reading, writing
from storage.principal import Principal
from storage.schema import audit

Act = Literal[
    "run.submitted",
    "run.cancelled",
    "evaluation.asked",
    "factor.promoted",
    "factor.retired",
    "alphas.imported",
    "market.imported",
    "version.pruned",
    "token.created",
    "token.revoked",
    "quota.set",
    "webhook.created",
    "webhook.deleted",
    "login",
    "login.failed",
    "logout",
]


class AuditEntry(BaseModel):
    """An act.

    Attributes:
        id: a UUIDv7, so that ids sort by time.
        at: when, UTC.
        user: whose act; empty for a login that failed.
        token: public id of the token that was shown, ``None`` without one.
        act: what was done.
        subject: id of what it was done to.
        client: address that it was asked from, ``None`` on the command line.
        request_id: of the request, if it has one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    at: AwareDatetime
    user: str
    token: str | None
    act: Act
    subject: str
    client: str | None
    request_id: str | None


def append(connection: Connection, by: Principal, act: Act, subject: str) -> None:
    """Log an act in the transaction that does it."""
    entry = AuditEntry(
        id=str(uuid7()),
        at=datetime.now(UTC),
        user=by.user,
        token=by.token,
        act=act,
        subject=subject,
        client=by.client,
        request_id=by.request_id,
    )
    connection.execute(insert(audit).values(entry.model_dump()))


class Audit:
    """The audit log in the records; thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, by: Principal, act: Act, subject: str) -> None:
        """Log an act that was done outside the records."""
        with writing(self._engine) as connection:
            append(connection, by, act, subject)

    def last(self, act: Act) -> dict[str, datetime]:
        """When an act was last done, by what it was done to."""
        query = select(audit.c.subject, func.max(audit.c.at).label("at")).where(audit.c.act == act)
        with reading(self._engine) as connection:
            return {row.subject: row.at for row in connection.execute(query.group_by(audit.c.subject))}

    def page(self, limit: int = 50, cursor: str | None = None) -> tuple[list[AuditEntry], str | None]:
        """A page of the log, newest first, and the cursor of the next; ``NotFoundError`` for an unknown cursor."""
        key = audit.c.id
        query = select(audit).order_by(key.desc())
        with reading(self._engine) as connection:
            if cursor is not None:
                query = query.where(key < rows.cursor_keys(connection, [key], key == cursor)[0])
            found, more = rows.page(connection, query, limit)
        entries = [AuditEntry.model_validate(row._asdict()) for row in found]
        return entries, entries[-1].id if more else None

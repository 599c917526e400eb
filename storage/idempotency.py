"""Requests that are carried out once however often they are sent, by a key that their client chose."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from pydantic import BaseModel
from sqlalchemy import Connection, delete, insert, select

from factors.errors import AlphaAgentError
from storage.principal import Principal
from storage.schema import idempotency_keys

_KEPT: Final = timedelta(hours=48)


class IdempotencyError(AlphaAgentError):
    """A key that came with another request before."""


@dataclass(frozen=True, slots=True)
class Once:
    """A request to carry out once.

    Attributes:
        key: its client's name for it, which is a name among those of the user.
        digest: SHA-256 of what is asked for, hexadecimal.
    """

    key: str
    digest: str

    @classmethod
    def of(cls, key: str, act: str, body: BaseModel) -> Self:
        """The request with that key; bodies that say the same are the same."""
        return cls(key, hashlib.sha256(f"{act}\n{body.model_dump_json()}".encode()).hexdigest())


def earlier(connection: Connection, by: Principal, once: Once | None) -> str | None:
    """What came of the request when it was carried out, ``None`` where it was not.

    Raises:
        IdempotencyError: its key came with another request.
    """
    if once is None:
        return None
    table = idempotency_keys
    query = select(table.c.digest, table.c.subject).where(table.c.user == by.user, table.c.key == once.key)
    row = connection.execute(query).one_or_none()
    if row is not None and row.digest != once.digest:
        raise IdempotencyError("this Idempotency-Key came with another request: expected a new key for each request")
    return None if row is None else row.subject


def remember(connection: Connection, by: Principal, once: Once | None, subject: str) -> None:
    """Keep what came of a request, in the transaction that carries it out, and forget what is older than two days."""
    if once is None:
        return
    table, now = idempotency_keys, datetime.now(UTC)
    connection.execute(delete(table).where(table.c.user == by.user, table.c.created_at < now - _KEPT))
    values = {"user": by.user, "key": once.key, "digest": once.digest, "subject": subject, "created_at": now}
    connection.execute(insert(table).values(values))

"""The outbox of the webhooks: what each is owed, entered with the event it tells of, and kept until it is delivered.

:func:`enqueue` works inside the transaction that appends the event: neither is there without the other. Whoever
delivers claims a webhook, sends the delivery that has been due longest, and settles it. A claim is a lease: one of a
process that died runs out, and its delivery is sent again under the same id.

Each delivery is sent until the receiver has taken it or it is given up, so it may come twice. A webhook has one under
way at a time over all processes. First attempts go in the order of the events; what failed is sent again later, after
what has come meanwhile.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Engine, Row, Select, exists, insert, select, update
from uuid_utils import uuid7

from storage.engine import reading, writing
from storage.principal import holds
from storage.runs import TERMINAL, RunEvent
from storage.schema import deliveries, events, runs, tokens, webhooks

PATIENCE: Final = timedelta(days=3)  # with a webhook that nothing can be delivered to
TOLD: Final = frozenset({"factor.accepted", *(f"run.{status}" for status in TERMINAL)})

_EVENT: Final = tuple(events.c[name] for name in RunEvent.model_fields)


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that is for one process to send, until its lease ends; ``attempt`` counts from 1."""

    id: str
    webhook_id: str
    attempt: int
    url: str
    event: RunEvent
    secret: str = field(repr=False)


def enqueue(connection: Connection, event: RunEvent) -> None:
    """Enter an event that was just appended for every webhook that wants it."""
    if event.type in TOLD:
        due = {"run_id": event.run_id, "seq": event.seq, "attempts": 0, "next_at": event.at}
        for webhook_id in _wanting(connection, event):
            connection.execute(insert(deliveries).values(id=str(uuid7()), webhook_id=webhook_id, **due))


def _wanting(connection: Connection, event: RunEvent) -> list[str]:
    """The webhooks that may and want to hear of an event: of a private run its user's, of any other the team's.

    Somebody whose tokens have all ended or been revoked has left the team.
    """
    run = connection.execute(select(runs.c.user, runs.c.private).where(runs.c.id == event.run_id)).one()
    # Locked against deletion alone, or one deleted meanwhile would fail the run whose event this is.
    belongs = exists().where(tokens.c.user == webhooks.c.user, holds(event.at)) | ~exists(select(tokens.c.id))
    query = select(webhooks.c.id, webhooks.c.events).where(webhooks.c.disabled_at.is_(None), belongs)
    if run.private:
        query = query.where(webhooks.c.user == run.user)
    found = connection.execute(query.with_for_update(read=True, key_share=True))
    return [row.id for row in found if event.type in row.events]


class Outbox:
    """The outbox in the records, for those who deliver; thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def claim(self, most: int, lease: timedelta) -> list[Claim]:
        """At most so many deliveries that are due, each of another webhook, which nobody else is given meanwhile."""
        with reading(self._engine) as connection:
            # Mostly there is nothing, and the write lock of SQLite is left to others.
            if connection.execute(_due(datetime.now(UTC)).limit(1)).first() is None:
                return []
        with writing(self._engine) as connection:
            now = datetime.now(UTC)
            # Those served longest ago come first, so that none waits for ever behind the others.
            query = _due(now).order_by(webhooks.c.leased_until).limit(most)
            found = connection.execute(query.with_for_update(skip_locked=True, key_share=True)).all()
            claims = [_claim(connection, webhook, now, lease) for webhook in found]
        return [claim for claim in claims if claim is not None]

    def succeed(self, claim: Claim) -> None:
        """The receiver took it; nothing is changed where the claim is another's by now."""
        now = datetime.now(UTC)
        with writing(self._engine) as connection:
            if _settle(connection, claim, {"next_at": None, "delivered_at": now, "error": None}):
                _change(connection, claim.webhook_id, leased_until=now, failing_since=None)

    def fail(self, claim: Claim, error: str, next_at: datetime | None, *, gone: bool = False) -> None:
        """It was not taken, and is due again at ``next_at`` or, where that is ``None``, given up.

        The webhook is disabled, and all that waits for it is given up, where the receiver is ``gone``, or where this
        one is given up and nothing else was delivered since :data:`PATIENCE`.
        """
        now = datetime.now(UTC)
        with writing(self._engine) as connection:
            webhook = _settle(connection, claim, {"next_at": next_at, "error": error})
            if webhook is None:
                return
            since = webhook.failing_since or now
            _change(connection, claim.webhook_id, leased_until=now, failing_since=since)
            if gone:
                _disable(connection, claim.webhook_id, now, f"the receiver is gone: {error}")
            elif next_at is None and now - since >= PATIENCE:
                _disable(connection, claim.webhook_id, now, f"nothing was delivered since {since:%Y-%m-%d}: {error}")


def _due(now: datetime) -> Select[Any]:
    """The webhooks that are free and owed something by now."""
    owed = select(deliveries.c.id).where(deliveries.c.webhook_id == webhooks.c.id, deliveries.c.next_at <= now)
    return select(webhooks).where(webhooks.c.disabled_at.is_(None), webhooks.c.leased_until <= now, owed.exists())


def _claim(connection: Connection, webhook: Row[Any], now: datetime, lease: timedelta) -> Claim | None:
    """What has been due longest of a locked webhook; ``None`` where another process has just settled it."""
    query = (
        select(deliveries.c.id, deliveries.c.attempts, *_EVENT)
        .select_from(deliveries.join(events))
        .where(deliveries.c.webhook_id == webhook.id, deliveries.c.next_at <= now)
        .order_by(deliveries.c.next_at, deliveries.c.run_id, deliveries.c.seq)
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    attempt = row.attempts + 1
    connection.execute(update(deliveries).where(deliveries.c.id == row.id).values(attempts=attempt))
    _change(connection, webhook.id, leased_until=now + lease)
    values = row._asdict()
    event = RunEvent.model_validate({column.name: values[column.name] for column in _EVENT})
    return Claim(row.id, webhook.id, attempt, webhook.url, event, webhook.secret)


def _settle(connection: Connection, claim: Claim, values: Mapping[str, Any]) -> Row[Any] | None:
    """Set columns of a claimed delivery; its webhook, locked, or ``None`` where the claim has passed to another."""
    locked = select(webhooks).where(webhooks.c.id == claim.webhook_id).with_for_update(key_share=True)
    webhook = connection.execute(locked).one_or_none()
    held = (deliveries.c.id == claim.id) & (deliveries.c.attempts == claim.attempt) & deliveries.c.next_at.is_not(None)
    changed = connection.execute(update(deliveries).where(held).values(values))
    return webhook if changed.rowcount else None


def _change(connection: Connection, webhook_id: str, **values: object) -> None:
    connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(values))


def _disable(connection: Connection, webhook_id: str, now: datetime, reason: str) -> None:
    _change(connection, webhook_id, disabled_at=now, disabled_because=reason)
    waiting = (deliveries.c.webhook_id == webhook_id) & deliveries.c.next_at.is_not(None)
    connection.execute(update(deliveries).where(waiting).values(next_at=None))

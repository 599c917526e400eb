"""Hooks: addresses of other services that are told of accepted factors and of a run's end, and what they were sent.

What they are sent, and when, is the :mod:`storage.outbox`'s.
"""

import secrets
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, computed_field
from sqlalchemy import ColumnElement, Connection, Engine, delete, func, insert, select, true
from uuid_utils import uuid7

from factors.errors import NotFoundError, SettingError
from storage import audit, rows
from storage.engine import reading, writing
from storage.outbox import Outbox
from storage.principal import Principal
from storage.schema import deliveries, events, webhooks

MOST_WEBHOOKS: Final = 20  # of one user: each event that they are told has a row for each

WebhookEvent = Literal["factor.accepted", "run.succeeded", "run.failed", "run.cancelled"]
_EVENTS: Final[tuple[WebhookEvent, ...]] = get_args(WebhookEvent)


class WebhookRequest(BaseModel):
    """What a person asks for: where to post, and events of which types."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
    events: tuple[WebhookEvent, ...] = Field(default=_EVENTS, min_length=1, max_length=len(_EVENTS))


class Webhook(BaseModel):
    """An address that events are posted to; times are UTC.

    Attributes:
        id: a UUIDv7.
        user: whose it is.
        url: where to, https.
        events: of which types.
        created_at: what happens from then on is told.
        failing_since: the first failure that no success has followed, null where there is none.
        disabled_at: since when nothing is posted any more, null while it is.
        disabled_because: why, one line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    user: str
    url: str
    events: tuple[WebhookEvent, ...]
    created_at: AwareDatetime
    failing_since: AwareDatetime | None
    disabled_at: AwareDatetime | None
    disabled_because: str | None


class CreatedWebhook(Webhook):
    """A new hook with the ``secret`` that what is posted is signed with; it is shown this once."""

    secret: str


class Delivery(BaseModel):
    """An event that a hook is or was owed; times are UTC.

    Attributes:
        id: a UUIDv7, the same however often it is sent.
        run_id: whose event.
        seq: which of the run's events.
        type: the event's.
        attempts: how often it was sent; one that is under way counts.
        next_at: when it is due, null where it is not sent any more.
        delivered_at: when the receiver took it, null where it has not.
        error: what went wrong the last time, one line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    run_id: str
    seq: int
    type: WebhookEvent
    attempts: int
    next_at: AwareDatetime | None
    delivered_at: AwareDatetime | None
    error: str | None

    @computed_field
    def status(self) -> Literal["waiting", "delivered", "dead"]:
        """What has become of it; ``dead`` is given up."""
        if self.delivered_at is not None:
            return "delivered"
        return "dead" if self.next_at is None else "waiting"


class Webhooks:
    """The hooks in the records; thread-safe. Nobody but an admin sees, or deletes, another user's.

    Attributes:
        outbox: what they are still owed.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.outbox = Outbox(engine)

    def create(self, request: WebhookRequest, by: Principal) -> CreatedWebhook:
        """A new hook of the user.

        Raises:
            SettingError: the user has as many as one may have.
        """
        now = datetime.now(UTC)
        webhook = CreatedWebhook(
            id=str(uuid7()),
            user=by.user,
            url=request.url,
            events=request.events,
            created_at=now,
            failing_since=None,
            disabled_at=None,
            disabled_because=None,
            secret=f"whsec_{secrets.token_urlsafe(32)}",
        )
        owned = select(func.count()).select_from(webhooks).where(webhooks.c.user == by.user)
        with writing(self._engine, f"webhooks of {by.user}") as connection:
            if connection.execute(owned).scalar_one() >= MOST_WEBHOOKS:
                raise SettingError(f"a user has at most {MOST_WEBHOOKS} webhooks: delete one first")
            connection.execute(insert(webhooks).values(leased_until=now, **webhook.model_dump()))
            audit.append(connection, by, "webhook.created", webhook.id)
        return webhook

    def seen_by(self, by: Principal) -> list[Webhook]:
        """The hooks that are a user's to see, oldest first."""
        columns = (webhooks.c[name] for name in Webhook.model_fields)
        query = select(*columns).where(_owned(by)).order_by(webhooks.c.id)
        with reading(self._engine) as connection:
            return [Webhook.model_validate(row._asdict()) for row in connection.execute(query)]

    def delete(self, webhook_id: str, by: Principal) -> None:
        """Forget a hook of the user and what it was sent; ``NotFoundError`` where there is none."""
        with writing(self._engine) as connection:
            _require(connection, webhook_id, by)
            connection.execute(delete(webhooks).where(webhooks.c.id == webhook_id))
            audit.append(connection, by, "webhook.deleted", webhook_id)

    def deliveries(
        self, webhook_id: str, by: Principal, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[Delivery], str | None]:
        """A page of what a hook of the user is or was owed, newest first, and the next one's cursor.

        Raises:
            NotFoundError: no such hook, or no such cursor.
        """
        key = deliveries.c.id
        columns = (events.c.type if name == "type" else deliveries.c[name] for name in Delivery.model_fields)
        query = select(*columns).select_from(deliveries.join(events)).where(deliveries.c.webhook_id == webhook_id)
        with reading(self._engine) as connection:
            _require(connection, webhook_id, by)
            if cursor is not None:
                at = (key == cursor) & (deliveries.c.webhook_id == webhook_id)
                query = query.where(key < rows.cursor_keys(connection, [key], at)[0])
            found, more = rows.page(connection, query.order_by(key.desc()), limit)
        page = [Delivery.model_validate(row._asdict()) for row in found]
        return page, page[-1].id if more else None


def _owned(by: Principal) -> ColumnElement[bool]:
    return true() if by.role == "admin" else webhooks.c.user == by.user


def _require(connection: Connection, webhook_id: str, by: Principal) -> None:
    own = select(webhooks.c.id).where(webhooks.c.id == webhook_id, _owned(by))
    if connection.scalar(own) is None:
        raise NotFoundError(f"no webhook {webhook_id!r} of yours")

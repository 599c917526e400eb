"""The team: tokens that show who somebody is, sessions of pages opened with them, and quotas.

Of a key and of a session's id only the SHA-256 is kept: who reads the records can act for nobody.
"""

import hashlib
import re
import secrets
from datetime import UTC, datetime, timedelta
from hmac import compare_digest
from typing import Annotated, Any, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints
from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, delete, insert, select, update

from factors.errors import NotFoundError
from storage import audit, idempotency, spending
from storage.engine import reading, writing
from storage.idempotency import Once
from storage.principal import Principal, Role, holds
from storage.runs import Quota
from storage.schema import quotas, sessions, tokens

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
"""A user's name: letters, digits and ``. _ @ -``, at most 64."""

SESSION: Final = timedelta(hours=12)
_USE: Final = timedelta(minutes=1)  # a last use is known to the minute, or each request would write
_KEY: Final = re.compile(r"alphaagent_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class Token(BaseModel):
    """A token without its key; times are UTC.

    Attributes:
        id: public, and part of the key.
        user: whom it stands for.
        role: what they may do with it.
        created_at: when it was made.
        expires_at: when it ends, ``None`` where it does not.
        revoked_at: when somebody ended it, ``None`` where nobody has.
        used_at: last use, to the minute.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    user: str
    role: Role
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None
    used_at: AwareDatetime | None


class NewToken(Token):
    """A token that was just made, with its key, which nobody can read again."""

    key: str


class People:
    """The team's tokens, sessions and quotas in the records; thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._has_tokens = False

    def lasts(self, by: Principal) -> bool:
        """Whether what somebody showed still holds: a token and the session, if any, or that there is no token yet."""
        if by.token is None:
            return not self.has_tokens()
        now = datetime.now(UTC)
        shown = select(tokens.c.id).where(tokens.c.id == by.token, holds(now))
        if by.session is not None:
            shown = shown.join(sessions).where(_is_open(by.session, now))
        with reading(self._engine) as connection:
            return connection.scalar(shown) is not None

    def has_tokens(self) -> bool:
        """Whether a token was ever made; one that was revoked counts, as a team without keys is not open again."""
        if not self._has_tokens:
            with reading(self._engine) as connection:
                self._has_tokens = connection.scalar(select(tokens.c.id).limit(1)) is not None
        return self._has_tokens

    def create_token(self, by: Principal, user: Name, role: Role, days: int | None = None) -> NewToken:
        """A new token with its key, which ends after so many days."""
        public, secret, now = secrets.token_hex(6), secrets.token_urlsafe(32), datetime.now(UTC)
        token = Token(
            id=public,
            user=user,
            role=role,
            created_at=now,
            expires_at=None if days is None else now + timedelta(days=days),
            revoked_at=None,
            used_at=None,
        )
        with writing(self._engine) as connection:
            connection.execute(insert(tokens).values(token.model_dump() | {"hash": digest(secret)}))
            audit.append(connection, by, "token.created", public)
        return NewToken(**token.model_dump(), key=f"alphaagent_{public}_{secret}")

    def tokens(self) -> list[Token]:
        """All tokens, newest first."""
        with reading(self._engine) as connection:
            return [_token(row) for row in connection.execute(_select().order_by(tokens.c.created_at.desc()))]

    def revoke_token(self, by: Principal, token_id: str) -> None:
        """End a token and its sessions; ``NotFoundError`` where there is none, one that was revoked stays so."""
        with writing(self._engine) as connection:
            if connection.scalar(select(tokens.c.id).where(tokens.c.id == token_id)) is None:
                raise NotFoundError(f"no token {token_id!r}")
            valid = tokens.c.revoked_at.is_(None) & (tokens.c.id == token_id)
            if connection.execute(update(tokens).where(valid).values(revoked_at=datetime.now(UTC))).rowcount:
                connection.execute(delete(sessions).where(sessions.c.token_id == token_id))
                audit.append(connection, by, "token.revoked", token_id)

    def authenticate(self, key: str) -> Token | None:
        """The token of a key, ``None`` where it is none, has ended or was revoked."""
        found = _KEY.fullmatch(key)
        if found is None:
            return None
        at = (tokens.c.id == found[1]) & holds(datetime.now(UTC))
        with reading(self._engine) as connection:
            row = connection.execute(_select(tokens.c.hash).where(at)).one_or_none()
        if row is None or not compare_digest(row.hash, digest(found[2])):
            return None
        return self._used(_token(row))

    def log_in(self, key: str, client: str | None, request_id: str | None = None) -> str | None:
        """Open a session with a key; its id, or ``None`` where the key shows nothing. Either is logged."""
        token, now = self.authenticate(key), datetime.now(UTC)
        with writing(self._engine) as connection:
            if token is None:
                claimed = _KEY.fullmatch(key)
                nobody = Principal("", "viewer", claimed and claimed[1], client, request_id)
                audit.append(connection, nobody, "login.failed", "session")
                return None
            session = secrets.token_urlsafe(32)
            connection.execute(delete(sessions).where(sessions.c.expires_at < now))
            values = {"hash": digest(session), "token_id": token.id, "created_at": now, "expires_at": now + SESSION}
            connection.execute(insert(sessions).values(values))
            by = Principal(token.user, token.role, token.id, client, request_id)
            audit.append(connection, by, "login", "session")
        return session

    def session(self, session: str) -> Token | None:
        """The token that a session was opened with, ``None`` where either has ended."""
        now = datetime.now(UTC)
        at = _is_open(digest(session), now) & holds(now)
        with reading(self._engine) as connection:
            row = connection.execute(_select().join_from(tokens, sessions).where(at)).one_or_none()
        return None if row is None else self._used(_token(row))

    def log_out(self, by: Principal, session: str) -> None:
        """End a session, if there is one."""
        with writing(self._engine) as connection:
            if connection.execute(delete(sessions).where(sessions.c.hash == digest(session))).rowcount:
                audit.append(connection, by, "logout", "session")

    def quota(self, user: str, defaults: Quota) -> Quota:
        """What a user may do at once and in a day: the defaults, but for what was set for them."""
        with reading(self._engine) as connection:
            return _quota(connection, user, defaults)

    def set_quota(self, by: Principal, user: Name, quota: Quota) -> None:
        """Set the fields that are given of a user's quota; the others are the defaults, whatever was set before."""
        with writing(self._engine, f"quota of {user}") as connection:
            connection.execute(delete(quotas).where(quotas.c.user == user))
            given = quota.model_dump(exclude_unset=True)
            if given:
                connection.execute(insert(quotas).values(user=user, quota=given))
            audit.append(connection, by, "quota.set", user)

    def earlier(self, by: Principal, once: Once | None) -> str | None:
        """What came of a request when it was carried out, see :func:`storage.idempotency.earlier`."""
        with reading(self._engine) as connection:
            return idempotency.earlier(connection, by, once)

    def ask_evaluation(self, by: Principal, snapshot: str, defaults: Quota, once: Once | None = None) -> str:
        """Count an evaluation on a snapshot before it is made; the snapshot of the first where it was asked before.

        Raises:
            SpentError: the day's quota is used up.
            IdempotencyError: its key came with another request.
        """
        with writing(self._engine, spending.account(by.user)) as connection:
            known = idempotency.earlier(connection, by, once)
            if known is not None:
                return known
            spending.check_day(connection, by.user, _quota(connection, by.user, defaults))
            audit.append(connection, by, "evaluation.asked", snapshot)
            idempotency.remember(connection, by, once, snapshot)
        return snapshot

    def _used(self, token: Token) -> Token:
        now = datetime.now(UTC)
        if token.used_at is None or now - token.used_at > _USE:
            with writing(self._engine) as connection:
                connection.execute(update(tokens).where(tokens.c.id == token.id).values(used_at=now))
        return token


def _quota(connection: Connection, user: str, defaults: Quota) -> Quota:
    given = connection.scalar(select(quotas.c.quota).where(quotas.c.user == user))
    return defaults if given is None else Quota.model_validate(defaults.model_dump() | given)


def _select(*more: Any) -> Select[Any]:  # noqa: ANN401 - any column
    return select(*(tokens.c[name] for name in Token.model_fields), *more)


def _is_open(session: str, now: datetime) -> ColumnElement[bool]:
    """That the session of that hash has not ended."""
    return (sessions.c.hash == session) & (sessions.c.expires_at > now)


def _token(row: Row[Any]) -> Token:
    values = row._asdict()
    return Token.model_validate({name: values[name] for name in Token.model_fields})


def digest(secret: str) -> str:
    """What is kept of a key's secret or a session's id."""
    return hashlib.sha256(secret.encode()).hexdigest()

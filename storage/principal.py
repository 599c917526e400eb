"""Who acts: a user in a role, and what shows it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args

from sqlalchemy import ColumnElement

from storage.runs import Run
from storage.schema import tokens

Role = Literal["viewer", "researcher", "admin"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""Each may do what those before it may."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts.

    Attributes:
        user: the user's name.
        role: what the user may do here and now.
        token: public id of the token that showed it; ``None`` on the command line, and where none is asked for.
        client: address that the request came from, ``None`` on the command line.
        request_id: of that request, if it has one.
        session: hash of the id of the session that showed the token; ``None`` where its key was shown.
    """

    user: str
    role: Role
    token: str | None = None
    client: str | None = None
    request_id: str | None = None
    session: str | None = None

    def may(self, least: Role) -> bool:
        """Whether the role is at least that one."""
        return ROLES.index(self.role) >= ROLES.index(least)

    def owns(self, run: Run) -> bool:
        """Whether a run is the user's to change, as all are an admin's."""
        return run.user == self.user or self.role == "admin"

    def sees(self, run: Run) -> bool:
        """Whether a run may be told of: a private one only to who owns it; see :func:`storage.rows.seen_by`."""
        return not run.private or self.owns(run)


def holds(now: datetime) -> ColumnElement[bool]:
    """That a token shows who somebody is at a time: it has neither ended nor been revoked."""
    unexpired = tokens.c.expires_at.is_(None) | (tokens.c.expires_at > now)
    return tokens.c.revoked_at.is_(None) & unexpired


LOCAL: Final = Principal("local", "admin")
"""Who works with the records directly and says no name."""

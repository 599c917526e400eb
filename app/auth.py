"""Who asks: the one place that turns a request into a principal, and what each role may do.

Programs show a key as ``Authorization: Bearer``; pages show the cookie of a session, see :mod:`app.pages.login`. While
no token exists there is nobody to tell apart: the server answers this machine alone, whose user may do everything.

A browser sends along by itself what shows who somebody is: the cookie, and before there are tokens the fact that it
runs on this machine. So what such a request would change must come from a page of this server, and with a cookie it
must name the session's own CSRF token, as the form field ``csrf`` or the header ``X-CSRF-Token``.
"""

import hashlib
import ipaddress
from dataclasses import dataclass, replace
from hmac import compare_digest
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from app.dependencies import Shared
from app.observation import current_request
from app.runner import operator
from factors.errors import AlphaAgentError, NotFoundError
from storage.people import Token, digest
from storage.principal import Principal, Role
from storage.runs import Run

COOKIE: Final = "alphaagent_session"
_SAFE: Final = {"GET", "HEAD", "OPTIONS"}
_FORM: Final = "application/x-www-form-urlencoded"

_bearer = HTTPBearer(auto_error=False, description="A key, as `alphaagent token create` prints it.")
_cookie = APIKeyCookie(name=COOKIE, auto_error=False, description="The session of somebody who logged in at /login.")


class AuthenticationError(AlphaAgentError):
    """A request that does not show who asks."""


class ForbiddenError(AlphaAgentError):
    """A request that this user, or this page, may not make."""


async def anyone() -> None:
    """The least that a route can ask for: nothing."""


async def _csrf(request: Request) -> str | None:
    """The CSRF token that a request names."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() == _FORM:
        field = (await request.form()).get("csrf")
        return field if isinstance(field, str) else None
    return request.headers.get("x-csrf-token")


def authenticated(
    request: Request,
    runner: Shared,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    session: Annotated[str | None, Security(_cookie)],
    csrf: Annotated[str | None, Depends(_csrf)],
) -> Principal:
    """Who asks, also kept as the request's ``state.principal``.

    Raises:
        AuthenticationError: it does not tell, or by a key or session that is none, has ended or was revoked.
        ForbiddenError: another site may have had a browser ask.
    """
    people = runner.records.people
    if not people.has_tokens():
        principal = _on_this_machine(request)
    elif "authorization" in request.headers:
        principal = _shown(request, people.authenticate(bearer.credentials) if bearer else None)
    else:
        principal = _shown(request, people.session(session) if session else None, session)
        if request.method not in _SAFE:
            require_own_page(request)
            if not session or csrf is None or not compare_digest(csrf.encode(), csrf_token(session).encode()):
                raise ForbiddenError("the CSRF token of the session is missing: pages of this server send it")
    request.state.principal = principal
    return principal


@dataclass(frozen=True, slots=True)
class Least:
    """The dependency of a route on a role: the principal, whose role is at least ``role``."""

    role: Role

    async def __call__(self, principal: Annotated[Principal, Depends(authenticated)]) -> Principal:
        """Raise ``ForbiddenError`` for a lesser role."""
        if not principal.may(self.role):
            raise ForbiddenError(f"this takes the role {self.role}; {principal.user} is {principal.role} here")
        return principal


Viewer = Annotated[Principal, Depends(Least("viewer"))]
Researcher = Annotated[Principal, Depends(Least("researcher"))]
Admin = Annotated[Principal, Depends(Least("admin"))]


def visible_run(run_id: str, principal: Viewer, runner: Shared) -> Run:
    """The run of a path; one that the principal must not know of is not there."""
    run = runner.records.run(run_id)
    if not principal.sees(run):
        raise NotFoundError(f"no run {run_id!r}")
    return run


def own_run(principal: Researcher, run: Annotated[Run, Depends(visible_run)]) -> Run:
    """The same, where it is the principal's to change."""
    if not principal.owns(run):
        raise ForbiddenError(f"run {run.id} is {run.user}'s")
    return run


def csrf_token(session: str) -> str:
    """What a page of a session puts into its forms; it does not tell the session's id."""
    return hashlib.sha256(f"csrf {session}".encode()).hexdigest()


def require_own_page(request: Request) -> None:
    """Raise ``ForbiddenError`` where a browser says that a page of another site asks."""
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if foreign or request.headers.get("sec-fetch-site") not in {None, "same-origin", "none"}:
        raise ForbiddenError("a page of another site cannot ask for this")


def client_of(request: Request) -> str | None:
    """The address that a request comes from."""
    return request.client and request.client.host


def _shown(request: Request, token: Token | None, session: str | None = None) -> Principal:
    if token is None:
        raise AuthenticationError("expected a valid key as Authorization: Bearer, or a session of /login")
    opened = session and digest(session)
    return Principal(token.user, token.role, token.id, client_of(request), current_request(), opened)


def _on_this_machine(request: Request) -> Principal:
    # A name that somebody else's DNS leads here is another site's, and a forwarded address is another machine's.
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    if not (is_loopback(host) and is_loopback(client_of(request) or "")):
        raise ForbiddenError(
            "no token exists yet: this server answers http://localhost on its own machine alone; "
            "alphaagent token create makes one"
        )
    if request.method not in _SAFE:
        require_own_page(request)
    return replace(operator(), client=client_of(request), request_id=current_request())


def is_loopback(host: str) -> bool:
    """Whether a host, by name or address, is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""Logging in to the pages: a key is pasted once and becomes a session, whose id the browser keeps as a cookie."""

import ipaddress
import threading
import time
from collections import deque
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from app.auth import COOKIE, Viewer, anyone, client_of, require_own_page
from app.dependencies import Shared
from app.observation import current_request
from app.pages import PageRoute, page
from storage.people import SESSION
from storage.runs import SpentError

ATTEMPTS: Final = 10  # of a client in the time below
_SECONDS: Final = 60.0
_CLIENTS: Final = 10_000  # kept in mind at most
_SITE: Final = 64  # bits of an address of version 6 that one client may choose no other of

routes = APIRouter(route_class=PageRoute, default_response_class=HTMLResponse, include_in_schema=False)


class Attempts:
    """When clients have lately tried to log in to this process; thread-safe."""

    def __init__(self) -> None:
        self._made: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def count(self, client: str | None) -> None:
        """Count an attempt; ``SpentError`` for one too many."""
        now, site = time.monotonic(), _site(client or "")
        with self._lock:
            if len(self._made) >= _CLIENTS:
                self._made = {one: made for one, made in self._made.items() if made[-1] > now - _SECONDS}
            made = self._made.setdefault(site, deque(maxlen=ATTEMPTS))
            if len(made) == ATTEMPTS and made[0] > now - _SECONDS:
                raise SpentError("login attempts", int(made[0] + _SECONDS - now) + 1)
            made.append(now)


def _site(client: str) -> str:
    """The network that a client may choose its address in."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    return client if address.version == 4 else str(ipaddress.ip_network((int(address), _SITE), strict=False))  # noqa: PLR2004


@routes.get("/login", dependencies=[Depends(anyone)])
def get_login(request: Request, runner: Shared) -> Response:
    """Where a key is pasted."""
    return page(request, "login.html", has_tokens=runner.records.people.has_tokens(), failed=False)


@routes.post("/login", dependencies=[Depends(anyone)])
def post_login(request: Request, runner: Shared, key: Annotated[str, Form()] = "") -> Response:
    """Open a session."""
    require_own_page(request)
    request.app.state.logins.count(client_of(request))
    session = runner.records.people.log_in(key.strip(), client_of(request), current_request())
    if session is None:
        return page(request, "login.html", HTTPStatus.UNAUTHORIZED, has_tokens=True, failed=True)
    answer = RedirectResponse("/", HTTPStatus.SEE_OTHER)
    secure = request.url.scheme == "https"
    age = int(SESSION.total_seconds())
    answer.set_cookie(COOKIE, session, max_age=age, httponly=True, samesite="lax", secure=secure)
    return answer


@routes.post("/logout")
def post_logout(request: Request, principal: Viewer, runner: Shared) -> Response:
    """End the session."""
    runner.records.people.log_out(principal, request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/login", HTTPStatus.SEE_OTHER)
    answer.delete_cookie(COOKIE, httponly=True, samesite="lax", secure=request.url.scheme == "https")
    return answer

"""What is observed of each request and each run: an id in every log line, a line at its end, its time."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, bound_contextvars, clear_contextvars, get_contextvars
from uuid_utils import uuid7

from app.metrics import Metrics
from app.tracing import span

logger = structlog.stdlib.get_logger(__name__)

REQUEST_ID = "X-Request-ID"
_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# The client chooses paths and methods: they are labels only where there are few of them.
_NO_ROUTE, _NO_METHOD = "none", "OTHER"


class Observed:
    """Gives each request an id, the client's own where that is well-formed, and tells its log line and its time."""

    def __init__(self, service: ASGIApp, metrics: Metrics) -> None:
        self._service, self._metrics = service, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._service(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _WELL_FORMED.fullmatch(given) else str(uuid7())
        clear_contextvars()
        bind_contextvars(request_id=request_id)
        began, answered, status = perf_counter(), None, 500

        async def answer(message: Message) -> None:
            nonlocal answered, status
            if message["type"] == "http.response.start":
                answered, status = perf_counter(), message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        try:
            await self._service(scope, receive, answer)
        finally:
            ended = perf_counter()
            method = scope["method"] if scope["method"] in _METHODS else _NO_METHOD
            route = getattr(scope.get("route"), "path", _NO_ROUTE)
            self._metrics.request_seconds.labels(method, route, status).observe((answered or ended) - began)
            principal = scope.get("state", {}).get("principal")
            user = {"user": principal.user} if principal else {}
            took = round(1000 * (ended - began), 1)
            logger.info("request", method=method, route=route, status=status, ms=took, **user)


def current_request() -> str | None:
    """The id of the request that is being answered, ``None`` outside of any."""
    return get_contextvars().get("request_id")


@contextmanager
def observed_run(run_id: str) -> Iterator[None]:
    """What is done meanwhile is done for a run: its id is in every log line, and it is a span."""
    with bound_contextvars(run_id=run_id), span("run", run_id=run_id):
        yield

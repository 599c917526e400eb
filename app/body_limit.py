"""How large the body of a request may be."""

from http import HTTPStatus
from typing import Final

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems import answer

LIMIT: Final = 2**20  # bytes

_REFUSAL: Final = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {LIMIT:,} bytes"


class BodyLimit:
    """Refuses larger bodies: by their ``Content-Length``, or where that is missing while they are read."""

    def __init__(self, service: ASGIApp) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._service(scope, receive, send)
            return
        lengths = (value for name, value in scope["headers"] if name == b"content-length")
        if any(length.isdigit() and int(length[:20]) > LIMIT for length in lengths):
            await answer(*_REFUSAL)(scope, receive, send)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > LIMIT:
                raise HTTPException(*_REFUSAL)
            return message

        await self._service(scope, counted, send)

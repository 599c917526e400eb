"""Quotas over HTTP: what users may do at once and in a day."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request

from app.auth import Admin, Viewer
from app.dependencies import Shared
from storage.people import Name
from storage.runs import Quota, SpentError

_STREAM_SECONDS = 10  # after which to look again whether a stream of one's own has ended

routes = APIRouter()

User = Annotated[Name, Path(description="A user's name.")]


async def _stream(request: Request, principal: Viewer, runner: Shared) -> AsyncIterator[None]:
    open_streams: Counter[str] = request.app.state.open_streams
    quota = await asyncio.to_thread(runner.records.people.quota, principal.user, runner.settings.quota)
    if open_streams[principal.user] >= quota.streams:
        raise SpentError("user_streams", _STREAM_SECONDS)
    open_streams[principal.user] += 1
    try:
        yield
    finally:
        open_streams[principal.user] -= 1


OneStream = Depends(_stream)
"""The dependency of a route that answers with a stream, which counts among its user's until it ends."""


@routes.get("/users/{user}/quota")
def get_quota(user: User, _: Admin, runner: Shared) -> Quota:
    """What a user may do."""
    return runner.records.people.quota(user, runner.settings.quota)


@routes.put("/users/{user}/quota")
def put_quota(user: User, body: Quota, principal: Admin, runner: Shared) -> Quota:
    """Set what a user may do: the fields that are given, while the others are the server's; what holds from now on."""
    runner.records.people.set_quota(principal, user, body)
    return runner.records.people.quota(user, runner.settings.quota)

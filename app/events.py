"""Events over HTTP: the streams of one run and of all, and where a client that comes back resumes."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from http import HTTPStatus
from time import monotonic
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Response
from fastapi.responses import StreamingResponse
from starlette.types import Send

from app.auth import Viewer, visible_run
from app.dependencies import Followed, Shared
from app.problems import refusals
from app.quotas import OneStream
from factors.errors import SettingError
from storage.events import StreamedEvent
from storage.feed import NO_RUN, Position
from storage.people import People
from storage.principal import Principal
from storage.runs import TERMINAL, Run

LOOK_SECONDS: Final = 10.0  #: after which a stream looks again whether its client may still read it

LastEventId = Annotated[
    str | None, Header(description="The id of the last event that the client has got; the stream goes on behind it.")
]


class EventStream(StreamingResponse):
    """Frames of server-sent events, as they come."""

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncGenerator[bytes]) -> None:
        super().__init__(frames, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._frames = frames

    async def stream_response(self, send: Send) -> None:
        """Send the frames; however that ends, so does the subscription."""
        async with aclosing(self._frames):
            await super().stream_response(send)


async def _while_it_lasts(frames: AsyncGenerator[bytes], principal: Principal, people: People) -> AsyncGenerator[bytes]:
    """The frames as long as what the principal has shown still holds, looked at every few seconds."""
    looked = monotonic()
    async with aclosing(frames):
        async for chunk in frames:
            if monotonic() - looked >= LOOK_SECONDS:
                if not await asyncio.to_thread(people.lasts, principal):
                    return
                looked = monotonic()
            yield chunk


_DOCUMENTED: dict[int | str, dict[str, Any]] = {
    200: {
        "model": StreamedEvent,
        "content": {EventStream.media_type: {"schema": {"type": "object"}}},  # or it would be that of a mere text
        "description": "Server-sent events; the data of each is one of these as JSON text, and `event` is its type. "
        "Comments keep the stream alive. `run.progress` has no id: it is not kept, and not told again.",
    },
    **refusals(429),
}


routes = APIRouter(default_response_class=EventStream, responses=_DOCUMENTED, dependencies=[OneStream])


@routes.get(
    "/runs/{run_id}/events",
    status_code=HTTPStatus.OK,
    responses={204: {"description": "The run is over, and there is nothing more."}, **refusals(410)},
)
def get_run_events(
    run: Annotated[Run, Depends(visible_run)],
    principal: Viewer,
    streams: Followed,
    runner: Shared,
    last_event_id: LastEventId = None,
) -> Response:
    """A run's events from the first, or from behind `Last-Event-ID`, until its last; ids count them without gaps."""
    if last_event_id is not None and not re.fullmatch(r"[0-9]{1,18}", last_event_id):
        raise SettingError("Last-Event-ID must be the id of an event, a whole number of at most 18 digits")
    after = int(last_event_id or 0)
    end = runner.records.feed.ends([run.id]).get(run.id, 0)
    if after >= end and run.status in TERMINAL:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    if after > end:
        raise SettingError(f"Last-Event-ID must be the id of an event: the run's last is {end}, not {after}")
    runner.records.events(run.id, after, limit=1)  # refused here where some were removed: the stream no longer could be
    return EventStream(_while_it_lasts(streams.of_run(run.id, after), principal, runner.records.people))


@routes.get("/events", status_code=HTTPStatus.OK)
def get_events(principal: Viewer, streams: Followed, runner: Shared, last_event_id: LastEventId = None) -> Response:
    """The events of all your runs in one stream that has no end: of those that are open, from the first, and new ones.

    Each run's events come in order, between runs there is none. Behind `Last-Event-ID` a client gets every other event
    of these runs and of those created since, once, while the log keeps them.
    """
    position = None
    if last_event_id is not None:
        position = Position.parse(last_event_id)
        ends = runner.records.feed.ends(position.seqs)
        newest, _ = runner.records.feed.now()
        strange = set(runner.records.feed.owners(position.seqs, NO_RUN, NO_RUN).values()) - {principal.user}
        if (
            strange
            or position.newest > newest
            or any(seq > ends.get(run_id, seq) for run_id, seq in position.seqs.items())
        ):
            raise SettingError("Last-Event-ID must be the id of an event of this stream")
    return EventStream(_while_it_lasts(streams.of_runs(principal.user, position), principal, runner.records.people))

"""What routes are given of the service that they belong to."""

from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request

from app.runner import Runner
from app.streams import Streams


def _runner(request: Request) -> Runner:
    runner = request.app.state.runner
    if not isinstance(runner, Runner):
        raise TypeError("the service has not started")
    return runner


Shared = Annotated[Runner, Depends(_runner)]


def _evaluations(request: Request) -> CapacityLimiter:
    limiter = request.app.state.evaluations
    if not isinstance(limiter, CapacityLimiter):
        raise TypeError("the service has not started")
    return limiter


#: threads for requests that wait for a worker process, apart from those of all others, which they must not use up
Evaluations = Annotated[CapacityLimiter, Depends(_evaluations)]


def _streams(request: Request) -> Streams:
    streams = request.app.state.streams
    if not isinstance(streams, Streams):
        raise TypeError("the service has not started")
    return streams


Followed = Annotated[Streams, Depends(_streams)]

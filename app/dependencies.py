"""What routes are given of the service that they belong to."""

from typing import Annotated

from fastapi import Depends, Request

from app.runner import Runner
from app.streams import Streams
from storage.runs import Run


def _runner(request: Request) -> Runner:
    runner = request.app.state.runner
    if not isinstance(runner, Runner):
        raise TypeError("the service has not started")
    return runner


Shared = Annotated[Runner, Depends(_runner)]


def asked_run(run_id: str, runner: Shared) -> Run:
    """The run that the path names."""
    return runner.records.run(run_id)


def _streams(request: Request) -> Streams:
    streams = request.app.state.streams
    if not isinstance(streams, Streams):
        raise TypeError("the service has not started")
    return streams


Followed = Annotated[Streams, Depends(_streams)]

"""What routes are given of the service that they belong to."""

from typing import Annotated

from fastapi import Depends, Request

from app.runner import Runner


def _runner(request: Request) -> Runner:
    runner = request.app.state.runner
    if not isinstance(runner, Runner):
        raise TypeError("the service has not started")
    return runner


Shared = Annotated[Runner, Depends(_runner)]

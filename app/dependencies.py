"""What routes are given of the service that they belong to."""

from typing import Annotated, Generic, TypeVar

from anyio import CapacityLimiter
from fastapi import Depends, Header, Request
from pydantic import BaseModel

from app.imports import Importers
from app.runner import Runner
from app.streams import Streams
from storage.idempotency import Once

Kept = TypeVar("Kept")


class _OfService(Generic[Kept]):
    """The dependency of a route on what the service keeps in its state under a name."""

    def __init__(self, name: str, kind: type[Kept]) -> None:
        self._name, self._kind = name, kind

    async def __call__(self, request: Request) -> Kept:
        """What is kept; ``TypeError`` where the service has not started."""
        found = getattr(request.app.state, self._name)
        if not isinstance(found, self._kind):
            raise TypeError("the service has not started")
        return found


Shared = Annotated[Runner, Depends(_OfService("runner", Runner))]
#: threads for requests that wait for a worker process, apart from those of all others, which they must not use up
Evaluations = Annotated[CapacityLimiter, Depends(_OfService("evaluations", CapacityLimiter))]
Followed = Annotated[Streams, Depends(_OfService("streams", Streams))]
Importing = Annotated[Importers, Depends(_OfService("importers", Importers))]

RequestKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern="^[!-~]{1,200}$",
        description="A name for this request, of your own: sent again with it, it is not carried out again.",
    ),
]


def once_of(key: str | None, act: str, body: BaseModel) -> Once | None:
    """The request to carry out once, where it has a key."""
    return None if key is None else Once.of(key, act, body)

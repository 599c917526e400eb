"""Binding a port and running the service on it."""

import gc
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import typer
import uvicorn
from fastapi import FastAPI

from app.service import create_service, drain
from app.settings import Settings
from factors.errors import SettingError
from storage.records import Records

STALLED_SECONDS = 30  # that a client may take nothing of what was sent to it
SHUTDOWN_SECONDS = 4  # an open connection must not hold the server up


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        SettingError: the address cannot be bound, for example because the port is taken.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # The connection of a client that has stopped reading is closed, not kept with what it was to read.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_SECONDS * 1000)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise SettingError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error
    return listener


def run_service(settings: Settings, listener: socket.socket) -> None:
    """Serve on a listening socket until interrupted."""
    with listener:
        Records.open(settings.database_url).close()  # or unusable records would be told of in a traceback
        host, port = listener.getsockname()[:2]
        service = create_service(settings)
        with _many_streams():
            typer.echo(f"AlphaAgent serves http://{host}:{port} (documentation at /docs); stop it with Ctrl-C")
            _Server(service).run(sockets=[listener])


@contextmanager
def _many_streams() -> Iterator[None]:
    """As many open files as the system lets this process have, each stream being one; and short collections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # What has been imported stays: walking through it for garbage would hold all streams up for a tenth of a second.
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()  # or DuckDB would report at the end of the process that it has leaked


class _Server(uvicorn.Server):
    """Drains the service before it waits for open connections: event streams end when their runs do."""

    def __init__(self, service: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(service, log_level="warning", timeout_graceful_shutdown=SHUTDOWN_SECONDS),
        )
        self._service = service

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await drain(self._service)
        await super().shutdown(sockets)

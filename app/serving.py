"""Binding a port and running the service on it."""

import gc
import socket

import typer
import uvicorn
from fastapi import FastAPI

from app.service import create_service, drain
from app.settings import Settings
from factors.errors import SettingError
from storage.records import Records

SHUTDOWN_SECONDS = 4  # an open connection must not hold the server up


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        SettingError: the address cannot be bound, for example because the port is taken.
    """
    # asyncio sends at once only on what is said to be TCP; else each answer would wait 40 ms for an acknowledgement.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
        typer.echo(f"AlphaAgent serves http://{host}:{port} (documentation at /docs); stop it with Ctrl-C")
        server = _Server(create_service(settings))
        gc.freeze()  # what was imported stays: to look through it for garbage would hold up every answer
        server.run(sockets=[listener])


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

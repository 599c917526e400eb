"""Binding a port and running the service on it."""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from importlib.metadata import version

import structlog
import typer
import uvicorn
from fastapi import FastAPI

from app import logs, tracing
from app.service import create_service, drain
from app.settings import Settings
from factors.errors import SettingError
from storage.records import Records

logger = structlog.stdlib.get_logger(__name__)

SHUTDOWN_SECONDS = 4  # an open connection must not hold the server up


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        SettingError: the address cannot be bound, for example because the port is taken.
    """
    listener = socket.socket()
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
        logs.configure(logging.INFO, settings)
        threading.excepthook = logs.log_failure
        close_tracing = tracing.configure()
        Records.open(settings.database_url).close()  # or unusable records would be told of in a traceback
        host, port = listener.getsockname()[:2]
        typer.echo(f"AlphaAgent serves http://{host}:{port} (documentation at /docs); stop it with Ctrl-C")
        logger.info("service started", host=host, port=port, version=version("alphaagent"))
        _Server(create_service(settings), close_tracing).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Drains the service before it waits for open connections: event streams end when their runs do."""

    def __init__(self, service: FastAPI, close_tracing: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                service,
                log_config=None,
                log_level="warning",
                access_log=False,  # requests have their line already, see app.observation
                timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            ),
        )
        self._service, self._close_tracing = service, close_tracing

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await drain(self._service)
        await super().shutdown(sockets)
        await asyncio.to_thread(self._close_tracing)
        # Told here, as uvicorn lets the signal that stopped it end the process.
        logger.info("service stopped")

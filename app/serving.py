"""Binding a port and running the service on it."""

import socket

import typer
import uvicorn

from app.service import create_service
from app.settings import Settings
from factors.errors import SettingError

SHUTDOWN_SECONDS = 5  # an open event stream must not hold the server up


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
    host, port = listener.getsockname()[:2]
    typer.echo(f"AlphaAgent serves http://{host}:{port} (documentation at /docs); stop it with Ctrl-C")
    config = uvicorn.Config(create_service(settings), log_level="warning", timeout_graceful_shutdown=SHUTDOWN_SECONDS)
    uvicorn.Server(config).run(sockets=[listener])

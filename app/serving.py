"""Binding a port and running the service on it."""

import logging
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable
from importlib.metadata import version

import structlog
import typer
import uvicorn
from fastapi import FastAPI

from app import logs, tracing
from app.auth import is_loopback
from app.engine import RunEngine, run_engine
from app.service import create_service, drain
from app.settings import Settings
from factors.errors import SettingError
from storage.records import Records

logger = structlog.stdlib.get_logger(__name__)

STALLED_SECONDS = 30  # that a client may take nothing of what was sent to it
SHUTDOWN_SECONDS = 4  # an open connection must not hold the server up
EXIT_SECONDS = 8  # nothing must, and neither a database that does not answer


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        SettingError: the address cannot be bound, for example because the port is taken.
    """
    # asyncio sends at once only on what is said to be TCP; else each answer would wait 40 ms for an acknowledgement.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
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
    """Serve on a listening socket until interrupted.

    Raises:
        SettingError: no token exists, and others than this machine could connect.
    """
    with listener:
        close_tracing = _observe(settings)
        host, port = listener.getsockname()[:2]
        with Records.open(settings.records_url) as records:  # unusable ones are told of here, not in a traceback
            has_tokens = records.people.has_tokens()
        if not has_tokens and not is_loopback(host):
            raise SettingError(
                f"without any token the service answers this machine alone, and cannot listen on {host}: "
                "make a key with alphaagent token create NAME --role admin"
            )
        service = create_service(settings)
        _allow_many_streams()
        logger.info("service started", host=host, port=port, version=version("alphaagent"))
        typer.echo(f"AlphaAgent serves http://{host}:{port} (documentation at /docs); stop it with Ctrl-C")
        if not has_tokens:
            typer.echo("There is no token yet: it answers this machine alone, and whoever works here may do everything")
        try:
            _Server(service, close_tracing).run(sockets=[listener])
        finally:
            engine = getattr(service.state, "engine", None)
            if engine is not None:  # it has none where the service could not start, which is told of by itself
                _end(engine)


def run_worker(settings: Settings) -> None:
    """Work on queued runs until SIGTERM or SIGINT."""
    close_tracing = _observe(settings)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with run_engine(settings, settings.concurrency) as engine:
        typer.echo(f"AlphaAgent works on up to {settings.concurrency} runs at once; stop it with Ctrl-C")
        logger.info("worker started", executor=engine.executor, version=version("alphaagent"))
        stopping.wait()
        _end_in_time()
    close_tracing()
    logger.info("worker stopped")
    _end(engine)


def _observe(settings: Settings) -> Callable[[], None]:
    """Tell of this process in logs, and in spans where that is configured; what sends the last spans at its end."""
    logs.configure(logging.INFO, settings)
    threading.excepthook = logs.log_failure
    return tracing.configure()


def _allow_many_streams() -> None:
    """As many open files as the system lets this process have, each stream being one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _end_in_time() -> None:
    """Let this process be gone within its time, whatever it waits for; what it has not given up is taken over."""

    def tell() -> None:
        logger.warning("the process ends before all of it has stopped")
        logging.shutdown()

    def end() -> None:
        telling = threading.Thread(target=tell, daemon=True)  # whoever reads the log may have stopped as well
        telling.start()
        telling.join(0.5)
        os._exit(0)

    timer = threading.Timer(EXIT_SECONDS, end)
    timer.daemon = True
    timer.start()


def _end(engine: RunEngine) -> None:
    """End the process also where a run has not stopped, as one that waits for a model; it goes on in the next one."""
    if engine.working:
        logging.shutdown()
        os._exit(0)


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
        _end_in_time()
        await drain(self._service)
        await super().shutdown(sockets)
        self._close_tracing()  # while nothing else runs: requests that were given up would tell of that at length
        # Told here, as uvicorn lets the signal that stopped it end the process.
        logger.info("service stopped")

"""``alphaagent serve`` and ``alphaagent work``: processes that are left running."""

from typing import Annotated

import typer

from app.serving import listen, run_service, run_worker
from app.settings import Settings


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8000,
) -> None:
    """Start the service."""
    run_service(Settings(), listen(host, port))


def work() -> None:
    """Work on queued runs beside a server, without serving; both share PostgreSQL and the folder of markets."""
    run_worker(Settings())

"""What is asked of a running service by whoever watches it: whether it lives, is ready, and how it fares."""

import logging
from typing import Literal

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, ConfigDict

from app.auth import Viewer, anyone
from app.dependencies import Shared
from app.laboratories import WorkerError
from app.metrics import Metrics
from app.problems import Problem
from factors.errors import DataError
from storage.census import UnavailableError
from storage.markets import market_names, open_market

logger = logging.getLogger(__name__)
routes = APIRouter(tags=["operations"])


class Readiness(BaseModel):
    """A service that is ready; so many ``markets`` can be opened, and so many are ``damaged``, as the log says."""

    model_config = ConfigDict(frozen=True)

    status: Literal["ready"] = "ready"
    markets: int
    damaged: int


class PlainText(Response):
    """Text for Prometheus."""

    media_type = CONTENT_TYPE_LATEST


@routes.get("/healthz", dependencies=[Depends(anyone)])
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@routes.get(
    "/readyz",
    responses={503: {"model": Problem, "description": "A part does not answer; `check` names it."}},
    dependencies=[Depends(anyone)],
)
def readyz(runner: Shared) -> Readiness:
    """Whether runs can be mined here: the database answers, a market can be opened and a worker process started.

    Anybody may ask, who is told no names.
    """
    runner.records.census.check()
    names, damaged = market_names(runner.settings.home), 0
    for name in names:
        try:
            open_market(runner.settings.home, name)
        except DataError as error:
            damaged += 1
            logger.warning("%s", error)
    if damaged == len(names):
        raise UnavailableError("market", "all markets are damaged" if damaged else "none has been imported")
    try:
        runner.laboratories.check()
    except WorkerError as error:
        raise UnavailableError("worker", str(error)) from error
    return Readiness(markets=len(names) - damaged, damaged=damaged)


@routes.get("/metrics", response_class=PlainText)
def get_metrics(_: Viewer, request: Request) -> Response:
    """Figures in the text format of Prometheus."""
    metrics: Metrics = request.app.state.metrics
    return PlainText(metrics.text())

"""Pages for people: the library by market, all that is known of one factor, and runs as they go on.

They need no cookie and no other host, and show what people and models wrote as text. A run's page alone has a script.
"""

import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import date
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app.appraisal import appraised_factor, ledger_of
from app.dependencies import Shared, asked_run
from app.pages.charts import appraisal_charts, memory_chart
from app.problems import status_of
from factors.errors import AlphaAgentError
from factors.hypothesis import Factor
from storage.ledger import MarketLedger
from storage.markets import Snapshot, list_markets, open_market
from storage.runs import Run

SHOWN = 50  # factors of a market, or runs, on one page


class PageRoute(APIRoute):
    """A route whose refusals are pages too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's answer to a request."""
        answer = super().get_route_handler()

        async def page(request: Request) -> Response:
            try:
                return await answer(request)
            except AlphaAgentError as error:
                status = status_of(error)
                return _page("problem.html", status, title=status.phrase, detail=str(error))

        return page


routes = APIRouter(route_class=PageRoute, default_response_class=HTMLResponse, include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Shelf:
    """A market's part of the library; ``following`` is the cursor of older factors, ``None`` where there are none."""

    snapshot: Snapshot
    ledger: MarketLedger
    factors: list[Factor]
    following: str | None


@routes.get("/")
def get_library_page(runner: Shared, market: str | None = None, cursor: str | None = None) -> Response:
    """The library and the ledger of each market, or of one, newest factors first."""
    records = runner.records
    shelves = []
    for snapshot in list_markets(runner.settings.home, market):
        found, following = records.factors(snapshot.market, SHOWN, cursor)
        shelves.append(Shelf(snapshot, ledger_of(runner.settings, records, snapshot.market), found, following))
    return _page("library.html", shelves=shelves, statuses=records.openings.statuses(), older=cursor is not None)


@routes.get("/library/{factor_id}")
def get_factor_page(factor_id: str, runner: Shared) -> Response:
    """All that is known of a factor in sample, and what the hold-out said of it if it was asked."""
    settings, records = runner.settings, runner.records
    factor = records.factor(factor_id)
    appraisal = appraised_factor(settings, records, factor)
    model = records.run(factor.run_id).model
    return _page(
        "factor.html",
        factor=factor,
        appraisal=appraisal,
        charts=appraisal_charts(appraisal),
        memory=memory_chart(appraisal.evaluation.memory),
        model=model,
        cutoff=settings.training_cutoff(model),
        opening=records.openings.of_factor(factor.id),
        has_holdout=open_market(settings.home, factor.market, factor.snapshot).has_holdout,
    )


@routes.get("/mining")
def get_runs_page(runner: Shared, cursor: str | None = None) -> Response:
    """The team's runs, newest first."""
    runs, following = runner.records.runs(SHOWN, cursor)
    return _page("runs.html", runs=runs, following=following, older=cursor is not None)


@routes.get("/mining/{run_id}")
def get_run_page(run: Annotated[Run, Depends(asked_run)]) -> Response:
    """A run as it goes on: its script follows the run's events."""
    return _page("run.html", scripted=True, run=run)


def _page(
    template: str, status: HTTPStatus = HTTPStatus.OK, *, scripted: bool = False, **context: object
) -> HTMLResponse:
    """A page, which may load nothing and whose one style is known by its nonce; so is its script, which may ask us."""
    nonce = secrets.token_urlsafe(16)
    script = f"script-src 'nonce-{nonce}'; connect-src 'self'; " if scripted else ""
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; {script}"
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    return HTMLResponse(_TEMPLATES.get_template(template).render(context, nonce=nonce), status, headers)


def _figure(value: float | date | None, spec: str) -> str:
    """A figure or a date by its format specification, a dash where it is null."""
    return "\N{EN DASH}" if value is None else format(value, spec)


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["figure"] = _figure

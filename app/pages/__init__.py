"""Pages for people: the library by market, and all that is known of one factor.

They need no script, no cookie and no other host, and show what people and models wrote as text.
"""

import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import date
from http import HTTPStatus
from pathlib import Path
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app.appraisal import appraised_factor, ledger_of
from app.dependencies import Evaluations, Shared
from app.pages.charts import appraisal_charts, memory_chart
from app.problems import status_of
from app.runner import Runner
from factors.errors import AlphaAgentError
from factors.hypothesis import Factor
from storage.ledger import MarketLedger
from storage.markets import Snapshot, list_markets, open_market

SHOWN = 50  # factors of a market on one page

_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


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
async def get_factor_page(factor_id: str, runner: Shared, evaluations: Evaluations) -> Response:
    """All that is known of a factor in sample, and what the hold-out said of it if it was asked."""
    return await to_thread.run_sync(_factor_page, factor_id, runner, limiter=evaluations)


def _factor_page(factor_id: str, runner: Runner) -> Response:
    settings, records = runner.settings, runner.records
    factor = records.factor(factor_id)
    appraisal = appraised_factor(settings, records, runner.laboratories, factor)
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


def _page(template: str, status: HTTPStatus = HTTPStatus.OK, **context: object) -> HTMLResponse:
    """A page, which may load nothing and whose one style is known by its nonce."""
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
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

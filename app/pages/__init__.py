"""Pages for people: the library by market, and all that is known of one factor.

They need no other host, and show what people and models wrote as text. The page of a run has a script, no other has.
"""

import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import date
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app.appraisal import appraised_factor, ledger_of, recorded_evaluation
from app.auth import COOKIE, Admin, AuthenticationError, Viewer, csrf_token
from app.dependencies import Evaluations, Shared
from app.library import LibraryFactor, with_status
from app.pages.charts import evaluation_charts, memory_chart, regime_chart
from app.problems import headers_of, status_of
from app.promotion import promote
from app.runner import Runner
from factors.errors import AlphaAgentError, NotFoundError
from factors.hypothesis import Factor
from storage.ledger import MarketLedger
from storage.markets import Snapshot, list_markets, open_market
from storage.principal import Principal

SHOWN = 50  # factors of a market, or runs, on one page


class PageRoute(APIRoute):
    """A route whose refusals are pages too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's answer to a request."""
        answer = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await answer(request)
            except AuthenticationError:
                return RedirectResponse("/login", HTTPStatus.SEE_OTHER)
            except AlphaAgentError as error:
                status = status_of(error)
                problem = page(request, "problem.html", status, title=status.phrase, detail=str(error))
                problem.headers.update(headers_of(error))
                return problem

        return answered


routes = APIRouter(route_class=PageRoute, default_response_class=HTMLResponse, include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Shelf:
    """A market's part of the library; ``following`` is the cursor of older factors, ``None`` where there are none."""

    snapshot: Snapshot
    ledger: MarketLedger
    factors: list[LibraryFactor]
    following: str | None


@routes.get("/")
def get_library_page(
    request: Request, _: Viewer, runner: Shared, market: str | None = None, cursor: str | None = None
) -> Response:
    """The library and the ledger of each market, or of one, newest factors first."""
    records = runner.records
    shelves = []
    for snapshot in list_markets(runner.settings.home, market):
        found, following = records.factors(snapshot.market, SHOWN, cursor)
        ledger = ledger_of(runner.settings, records, snapshot.market)
        shelves.append(Shelf(snapshot, ledger, with_status(records, found), following))
    return page(request, "library.html", shelves=shelves, older=cursor is not None)


@routes.get("/library/{factor_id}")
async def get_factor_page(
    factor_id: str, request: Request, principal: Viewer, runner: Shared, evaluations: Evaluations
) -> Response:
    """All that is known of a factor in sample, and what the hold-out said of it if it was asked."""
    return await to_thread.run_sync(_factor_page, factor_id, request, principal, runner, limiter=evaluations)


def _factor_page(factor_id: str, request: Request, principal: Principal, runner: Runner) -> Response:
    settings, records = runner.settings, runner.records
    factor = with_status(records, [records.factor(factor_id)])[0]
    snapshot = _kept(settings.home, factor)
    appraisal = snapshot and appraised_factor(settings, records, runner.laboratories, factor, principal.user)
    evaluation = appraisal.evaluation if appraisal else recorded_evaluation(factor)
    charts = evaluation_charts(evaluation)
    run = records.run(factor.run_id)
    return page(
        request,
        "factor.html",
        factor=factor,
        appraisal=appraisal,
        evaluation=evaluation,
        charts=(*charts, regime_chart(appraisal.robustness.regimes)) if appraisal else charts,
        memory=memory_chart(evaluation.memory),
        run=run if principal.sees(run) else None,
        cutoff=settings.training_cutoff(run.model),
        opening=records.openings.of_factor(factor.id),
        retirement=records.retirements.of_factor(factor.id),
        has_holdout=snapshot is not None and snapshot.has_holdout,
    )


def _kept(home: Path, factor: Factor) -> Snapshot | None:
    """The version that a factor was accepted on, ``None`` where it was pruned."""
    try:
        return open_market(home, factor.market, factor.snapshot)
    except NotFoundError:
        return None


@routes.post("/library/{factor_id}/promote")
def post_promote_button(factor_id: str, principal: Admin, runner: Shared) -> Response:
    """Promote a factor from its page."""
    promote(runner.settings, runner.records, factor_id, principal)
    return RedirectResponse(f"/library/{quote(factor_id)}", HTTPStatus.SEE_OTHER)


@routes.post("/library/{factor_id}/retire")
def post_retire_button(factor_id: str, principal: Admin, runner: Shared) -> Response:
    """Retire a factor from its page."""
    runner.records.retirements.retire(runner.records.factor(factor_id).id, principal)
    return RedirectResponse(f"/library/{quote(factor_id)}", HTTPStatus.SEE_OTHER)


def page(
    request: Request,
    template: str,
    status: HTTPStatus = HTTPStatus.OK,
    *,
    scripted: bool = False,
    **context: object,
) -> HTMLResponse:
    """A page for whoever asks, which may load nothing and whose one style is known by its nonce.

    So is the script of a ``scripted`` page, which may ask this server alone.
    """
    nonce = secrets.token_urlsafe(16)
    script = f"script-src 'nonce-{nonce}'; connect-src 'self'; " if scripted else ""
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; {script}"
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        # With no-referrer browsers would not tell, either, that a form is this server's own.
        "Referrer-Policy": "same-origin",
    }
    principal, csrf = getattr(request.state, "principal", None), csrf_token(request.cookies.get(COOKIE, ""))
    text = _TEMPLATES.get_template(template).render(context, nonce=nonce, principal=principal, csrf=csrf)
    return HTMLResponse(text, status, headers)


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

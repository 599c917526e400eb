"""The page of a market: its bars, what looks wrong in them, and its versions."""

from typing import Annotated
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from app import pages
from app.auth import Admin, Viewer
from app.dependencies import Shared
from app.pages import PageRoute, page
from app.pages.timeline import timeline
from app.quality import market_quality
from app.versions import market_versions, prune_version
from storage.acceptance import recorded
from storage.coverage import coverage
from storage.markets import open_market

FOREMOST = 12  # symbols that are named of those with findings

routes = APIRouter(route_class=PageRoute, default_response_class=HTMLResponse, include_in_schema=False)


@routes.get("/markets/{market}")
def get_market_page(
    market: str,
    request: Request,
    _: Viewer,
    runner: Shared,
    version: str = "",
    rule: str = "",
    symbol: str = "",
    cursor: str | None = None,
) -> Response:
    """A market's version, the current one where none is named, and what looks wrong in it, by a rule and of a symbol.

    A form sends what was left empty as well: that asks for nothing.
    """
    snapshot = open_market(runner.settings.home, market, version or None)
    examined = recorded(snapshot)
    found = market_quality(
        snapshot, examined, rule=rule or None, symbol=symbol or None, limit=pages.SHOWN, cursor=cursor
    )

    def address(**changed: str | None) -> str:
        asked = {"version": version, "rule": rule, "symbol": symbol} | changed
        query = urlencode({name: value for name, value in asked.items() if value})
        return f"/markets/{quote(market)}" + (f"?{query}" if query else "")

    return page(
        request,
        "market.html",
        snapshot=snapshot,
        found=found,
        foremost=found.symbols[:FOREMOST],
        benchmarks=sorted({*snapshot.benchmark()["name"]}),
        drawing=timeline(coverage(snapshot), snapshot.train_end, found.rules, examined.findings),
        versions=market_versions(runner.settings, runner.records, market),
        asked={"version": version, "rule": rule, "symbol": symbol},
        address=address,
        older=cursor is not None,
    )


@routes.post("/markets/{market}/prune")
def post_prune_button(market: str, version: Annotated[str, Form()], principal: Admin, runner: Shared) -> Response:
    """Remove a version from the page of its market."""
    prune_version(runner.settings, runner.records, market, version, principal)
    return RedirectResponse(f"/markets/{quote(market)}", 303)

"""Markets over HTTP: imports from the server's own folder, what looks wrong in the bars, and versions."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.auth import Admin, Viewer
from app.dependencies import Importing, RequestKey, Shared, once_of
from app.paging import Limit
from app.problems import refusals
from app.quality import MarketQuality, market_quality
from app.versions import MarketVersion, market_versions, prune_version
from storage.acceptance import recorded
from storage.imports import Import, ImportRequest
from storage.markets import open_market

routes = APIRouter(prefix="/markets/{market}")

Version = Annotated[str | None, Query(description="Id of a version; the current one where none is named.")]


@routes.post("/imports", status_code=202, responses=refusals(404, 409))
def post_import(
    market: str,
    body: ImportRequest,
    response: Response,
    principal: Admin,
    importers: Importing,
    key: RequestKey = None,
) -> Import:
    """Begin to import data sets of the server's import folder as the current version of a market."""
    begun = importers.start(market, body, principal, once_of(key, f"import of {market}", body))
    response.headers["Location"] = f"/markets/{market}/imports/{begun.id}"
    return begun


@routes.get("/imports/{import_id}")
def get_import(market: str, import_id: str, _: Admin, runner: Shared) -> Import:
    """An import as it stands."""
    return runner.records.imports.get(market, import_id)


@routes.get("/quality", responses=refusals(404))
def get_quality(
    market: str,
    _: Viewer,
    runner: Shared,
    version: Version = None,
    rule: str | None = None,
    symbol: str | None = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> MarketQuality:
    """What looks wrong in the bars of a market, in sample."""
    snapshot = open_market(runner.settings.home, market, version)
    return market_quality(snapshot, recorded(snapshot), rule=rule, symbol=symbol, limit=limit, cursor=cursor)


@routes.get("/versions", responses=refusals(404))
def get_versions(market: str, _: Viewer, runner: Shared) -> list[MarketVersion]:
    """The versions of a market and what uses them: the current one, then the others, the last imported first."""
    return market_versions(runner.settings, runner.records, market)


@routes.delete("/versions/{version_id}", status_code=204, responses=refusals(409))
def delete_version(market: str, version_id: str, principal: Admin, runner: Shared) -> None:
    """Remove a version that is not the current one and that no run needs; what was found on it stays."""
    prune_version(runner.settings, runner.records, market, version_id, principal)

"""Pages of runs: their list, and one that follows a run as it goes on."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse

from app import pages
from app.auth import Viewer, visible_run
from app.dependencies import Shared
from app.pages import PageRoute, page
from storage.runs import Run

routes = APIRouter(route_class=PageRoute, default_response_class=HTMLResponse, include_in_schema=False)


@routes.get("/mining")
def get_runs_page(request: Request, principal: Viewer, runner: Shared, cursor: str | None = None) -> Response:
    """The runs that somebody sees, newest first."""
    runs, following = runner.records.runs(pages.SHOWN, cursor, principal)
    return page(request, "runs.html", runs=runs, following=following, older=cursor is not None)


@routes.get("/mining/{run_id}")
def get_run_page(request: Request, run: Annotated[Run, Depends(visible_run)]) -> Response:
    """A run as it goes on: its script follows the run's events."""
    return page(request, "run.html", scripted=True, run=run)

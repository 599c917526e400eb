"""The HTTP service: post a run, follow it, read the library."""

import asyncio
import re
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Generic, TypeVar

import anyio
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict
from starlette.types import ASGIApp, Receive, Scope, Send

from app import health, pages, problems
from app.appraisal import Appraisal, EvaluationRequest, appraise, appraised_factor, ledger_of, overfitting
from app.dependencies import Shared
from app.inspection import Inspection, inspect, known_alphas, read
from app.metrics import Metrics
from app.observation import Observed
from app.promotion import promote
from app.runner import Runner, RunQueue, current_user
from app.settings import Settings
from factors.errors import SettingError
from factors.hypothesis import Factor
from factors.operators import COMPOSITES, OPERATORS
from factors.overfitting import Overfitting
from storage.ledger import MarketLedger
from storage.markets import list_markets, open_market
from storage.openings import Opening
from storage.records import Records
from storage.runs import TERMINAL, Run, RunRequest

POLL_SECONDS = 0.2
DRAIN_SECONDS = 4

routes = APIRouter()

Item = TypeVar("Item")
Limit = Annotated[int, Query(ge=1, le=200)]


class Page(BaseModel, Generic[Item]):
    """A page of a list; ``next_cursor`` is null on the last."""

    model_config = ConfigDict(frozen=True)

    items: list[Item]
    next_cursor: str | None


class OperatorEntry(BaseModel):
    """One operator of the factor language, or a composite that the parser writes out as operators.

    ``look_back`` is the rows of history that it adds to its arguments', in terms of its window; null for a composite,
    whose operators add theirs. ``qlib`` is the operator of qlib with the same values, or an expression of several.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    signature: str
    kind: str
    doc: str
    source: str
    aliases: tuple[str, ...] = ()
    look_back: str | None = None
    qlib: str | None = None
    expansion: str | None = None


def create_service(settings: Settings) -> FastAPI:
    """The service over one home."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(service: FastAPI) -> AsyncIterator[None]:
        with Records.open(settings.database_url) as records:
            metrics.watch(records.census)
            service.state.runner = Runner(settings, records, metrics)
            service.state.runner.recover()
            service.state.queue = RunQueue(service.state.runner)
            service.state.closing = asyncio.Event()
            yield
            await drain(service)

    service = FastAPIOffline(
        title="AlphaAgent",
        summary="A team-shared alpha-mining server",
        lifespan=lifespan,
        telemetry={"operation_spans": False},
        responses={"4XX": {"model": problems.Problem, "content": {"application/problem+json": {}}}},
    )
    service.state.metrics = metrics
    service.add_middleware(HangUps)
    service.add_middleware(Observed, metrics=metrics)
    problems.install(service)
    service.include_router(routes)
    service.include_router(pages.routes)
    service.include_router(health.routes)
    return service


class HangUps:
    """Takes a client's leaving an event stream for what it is.

    FastAPI's keep-alive still writes to the stream that the client closed, and that would be logged as a failure.
    """

    def __init__(self, service: ASGIApp) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a stream whose client is gone ends."""
        try:
            await self._service(scope, receive, send)
        except* anyio.BrokenResourceError:
            pass


async def drain(service: FastAPI) -> None:
    """Cancel all runs, give them a moment to end, then end the event streams; once is enough."""
    if not service.state.closing.is_set():
        await asyncio.to_thread(service.state.queue.close, DRAIN_SECONDS)
        service.state.closing.set()


def _last_event(last_event_id: Annotated[str | None, Header()] = None) -> int:
    if last_event_id is None:
        return 0
    if not re.fullmatch(r"[0-9]{1,18}", last_event_id):
        raise SettingError("Last-Event-ID must be the id of an event, a whole number of at most 18 digits")
    return int(last_event_id)


def _run(run_id: str, runner: Shared) -> Run:
    return runner.records.run(run_id)


def _place(run: Annotated[Run, Depends(_run)], after: Annotated[int, Depends(_last_event)], runner: Shared) -> int:
    """Where a stream begins; asked before it does, as it could not be refused any more."""
    runner.records.events(run.id, after, limit=1)
    return after


def _own_site(sec_fetch_site: Annotated[str | None, Header(include_in_schema=False)] = None) -> None:
    """A form on another site must not open the hold-out for whoever looks at it; browsers say where it comes from."""
    if sec_fetch_site not in {None, "same-origin", "none"}:
        raise HTTPException(HTTPStatus.FORBIDDEN, "a page of another site cannot ask for this")


@routes.post("/runs", status_code=202)
def post_run(body: RunRequest, request: Request, response: Response, runner: Shared) -> Run:
    """Queue a run."""
    run = runner.submit(body)
    request.app.state.queue.put(run.id)
    response.headers["Location"] = f"/runs/{run.id}"
    return run


@routes.get("/runs")
def get_runs(runner: Shared, limit: Limit = 50, cursor: str | None = None) -> Page[Run]:
    """The team's runs, newest first."""
    items, following = runner.records.runs(limit, cursor)
    return Page(items=items, next_cursor=following)


@routes.get("/runs/{run_id}")
def get_run(run: Annotated[Run, Depends(_run)]) -> Run:
    """One run as it stands."""
    return run


@routes.get("/runs/{run_id}/events", response_class=EventSourceResponse)
async def get_events(
    run: Annotated[Run, Depends(_run)],
    after: Annotated[int, Depends(_place)],
    request: Request,
    runner: Shared,
) -> AsyncIterable[ServerSentEvent]:
    """A run's events from the first, or from behind ``Last-Event-ID``, until its terminal event."""
    closing: asyncio.Event = request.app.state.closing
    while True:
        events = await asyncio.to_thread(runner.records.events, run.id, after)
        for event in events:
            after = event.seq
            yield ServerSentEvent(raw_data=event.model_dump_json(), event=event.type, id=str(event.seq))
        if not events:
            if closing.is_set():
                return
            run = await asyncio.to_thread(runner.records.run, run.id)
            if run.status in TERMINAL and not await asyncio.to_thread(runner.records.events, run.id, after):
                return
            await asyncio.sleep(POLL_SECONDS)


@routes.get("/factors")
def get_factors(
    runner: Shared, market: str | None = None, limit: Limit = 50, cursor: str | None = None
) -> Page[Factor]:
    """The team's library."""
    if market is not None:
        open_market(runner.settings.home, market)
    items, following = runner.records.factors(market, limit, cursor)
    return Page(items=items, next_cursor=following)


@routes.get("/factors/{factor_id}")
def get_factor(factor_id: str, runner: Shared) -> Factor:
    """One factor."""
    return runner.records.factor(factor_id)


@routes.post("/factors/{factor_id}/promote", dependencies=[Depends(_own_site)])
def post_promotion(factor_id: str, runner: Shared) -> Opening:
    """Ask the sealed hold-out about a factor, once and for good: it is live or rejected."""
    return promote(runner.settings, runner.records, factor_id, current_user())


@routes.get("/factors/{factor_id}/promotion")
def get_promotion(factor_id: str, runner: Shared) -> Opening | None:
    """What the hold-out said of a factor; null while nobody has asked."""
    return runner.records.openings.of_factor(runner.records.factor(factor_id).id)


@routes.get("/factors/{factor_id}/appraisal")
def get_appraisal(factor_id: str, runner: Shared) -> Appraisal:
    """All that is known of a factor in sample: its evaluation, its standing when it was tried, and robustness."""
    return appraised_factor(runner.settings, runner.records, runner.records.factor(factor_id))


@routes.get("/runs/{run_id}/overfitting")
def get_overfitting(run: Annotated[Run, Depends(_run)], runner: Shared) -> Overfitting | None:
    """Whether choosing the best of a run's candidates chooses anything; null where too little was measured."""
    candidates, _ = runner.records.candidates(run.id, limit=None)
    return overfitting(runner.records, run, candidates)


@routes.post("/evaluations")
def post_evaluation(body: EvaluationRequest, runner: Shared) -> Appraisal:
    """Measure a formula on train and valid; the first time, that is one more trial in the team's ledger."""
    return appraise(runner.settings, runner.records, body, current_user())


@routes.get("/ledger")
def get_ledger(runner: Shared, market: str | None = None) -> list[MarketLedger]:
    """How much the team has tried on each market, and what luck alone would show."""
    markets = list_markets(runner.settings.home, market)
    return [ledger_of(runner.settings, runner.records, snapshot.market) for snapshot in markets]


@routes.get("/factors/{factor_id}/neighbours")
def get_neighbours(factor_id: str, runner: Shared) -> Inspection:
    """A factor beside the published alphas, the imported ones, and the other factors of its market."""
    factor = runner.records.factor(factor_id)
    others = [other for other in runner.records.library(factor.market) if other.id != factor.id]
    known = known_alphas(runner.records.alphas(), others)
    return inspect(read(factor.formula), known, runner.settings.limits)


@routes.get("/operators")
def get_operators() -> list[OperatorEntry]:
    """The operators of the factor language, then the composites."""
    operators = [
        OperatorEntry(
            name=op.name,
            signature=op.signature,
            kind=op.kind.value,
            doc=op.doc,
            source=op.source,
            aliases=op.aliases,
            look_back=op.look_back_rule,
            qlib=op.qlib,
        )
        for op in OPERATORS.values()
    ]
    composites = [
        OperatorEntry(
            name=composite.name,
            signature=composite.signature,
            kind="composite",
            doc=composite.doc,
            source=composite.source,
            expansion=composite.expansion,
        )
        for composite in COMPOSITES
    ]
    return operators + composites

"""The HTTP service: post a run, follow it, read the library."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict

from app import events, health, markets, pages, problems, quotas, tokens, webhooks
from app.appraisal import Appraisal, EvaluationRequest, appraise, appraised_factor, ledger_of, overfitting
from app.auth import Admin, Researcher, Viewer, own_run, visible_run
from app.body_limit import BodyLimit
from app.deliverer import Deliverer
from app.dependencies import Evaluations, RequestKey, Shared, once_of
from app.egress import Egress
from app.engine import DRAIN_SECONDS, run_engine
from app.imports import Importers
from app.inspection import Inspection, inspect, known_alphas, read
from app.library import LibraryFactor, with_status
from app.metrics import Metrics
from app.observation import Observed
from app.pages import login, mining, quality
from app.paging import Limit, Page
from app.problems import refusals
from app.promotion import promote
from app.settings import Settings
from app.streams import Streams
from factors.operators import COMPOSITES, OPERATORS
from factors.overfitting import Overfitting
from storage.ledger import MarketLedger
from storage.markets import list_markets, open_market
from storage.openings import Opening
from storage.retirements import Retirement
from storage.runs import CandidateRecord, Run, RunRequest

routes = APIRouter()


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


def create_service(settings: Settings, egress: Egress | None = None) -> FastAPI:
    """The service over one home, which posts to the public internet unless it is given another way out."""
    metrics, open_streams = Metrics(), Counter[str]()
    metrics.subscribers.set_function(open_streams.total)

    @asynccontextmanager
    async def lifespan(service: FastAPI) -> AsyncIterator[None]:
        with ExitStack() as stack:
            # The engine waits for databases, which the event loop must not.
            engine = await asyncio.to_thread(stack.enter_context, run_engine(settings, settings.concurrency, metrics))
            metrics.watch(engine.runner.records.census)
            service.state.engine, service.state.runner = engine, engine.runner
            service.state.evaluations = CapacityLimiter(settings.workers)
            service.state.egress = egress or Egress()
            service.state.importers = Importers(settings, engine.runner.records, engine.executor)
            stack.callback(service.state.importers.close)
            stack.enter_context(Deliverer(engine.runner.records.webhooks.outbox, service.state.egress).at_work())
            async with Streams(engine.runner.records) as service.state.streams:
                yield
                await drain(service)

    service = FastAPIOffline(
        title="AlphaAgent",
        summary="A team-shared alpha-mining server",
        lifespan=lifespan,
        telemetry={"operation_spans": False},
    )
    service.state.metrics, service.state.open_streams = metrics, open_streams
    service.state.logins = login.Attempts()
    service.add_middleware(BodyLimit)
    service.add_middleware(Observed, metrics=metrics)
    problems.install(service)
    service.include_router(routes)
    for part in (events, markets, tokens, quotas, webhooks, pages, login, mining, quality, health):
        service.include_router(part.routes)
    return service


async def drain(service: FastAPI) -> None:
    """Have the runs stop where they stand, give up imports and evaluations, then end the event streams, once."""
    if not service.state.streams.closed:
        await asyncio.to_thread(service.state.importers.close)
        await asyncio.to_thread(service.state.engine.close, DRAIN_SECONDS)
        await service.state.streams.close()


@routes.post("/runs", status_code=202, responses=refusals(404, 429))
def post_run(
    body: RunRequest,
    request: Request,
    response: Response,
    principal: Researcher,
    runner: Shared,
    key: RequestKey = None,
) -> Run:
    """Queue a run."""
    run = runner.submit(body, by=principal, once=once_of(key, "run", body))
    request.app.state.engine.wake()
    response.headers["Location"] = f"/runs/{run.id}"
    return run


@routes.get("/runs", responses=refusals(404))
def get_runs(principal: Viewer, runner: Shared, limit: Limit = 50, cursor: str | None = None) -> Page[Run]:
    """The team's runs, newest first; private ones only of one's own."""
    items, following = runner.records.runs(limit, cursor, principal)
    return Page(items=items, next_cursor=following)


@routes.get("/runs/{run_id}")
def get_run(run: Annotated[Run, Depends(visible_run)]) -> Run:
    """One run as it stands."""
    return run


@routes.post("/runs/{run_id}/cancel", status_code=202, responses=refusals(409))
def post_cancel(run: Annotated[Run, Depends(own_run)], principal: Researcher, request: Request, runner: Shared) -> Run:
    """End a run: at once while it waits, otherwise within its next evaluation; it keeps what it has accepted."""
    run = runner.records.queue.cancel(run.id, principal)
    request.app.state.engine.wake()
    return run


@routes.get("/factors", responses=refusals(404))
def get_factors(
    _: Viewer, runner: Shared, market: str | None = None, limit: Limit = 50, cursor: str | None = None
) -> Page[LibraryFactor]:
    """The team's library."""
    if market is not None:
        open_market(runner.settings.home, market)
    items, following = runner.records.factors(market, limit, cursor)
    return Page(items=with_status(runner.records, items), next_cursor=following)


@routes.get("/factors/{factor_id}")
def get_factor(factor_id: str, _: Viewer, runner: Shared) -> LibraryFactor:
    """One factor."""
    return with_status(runner.records, [runner.records.factor(factor_id)])[0]


@routes.post("/factors/{factor_id}/promote", responses=refusals(409))
def post_promotion(factor_id: str, principal: Admin, runner: Shared) -> Opening:
    """Ask the sealed hold-out about a factor, once and for good: it is live or rejected."""
    return promote(runner.settings, runner.records, factor_id, principal)


@routes.post("/factors/{factor_id}/retire")
def post_retirement(factor_id: str, principal: Admin, runner: Shared) -> Retirement:
    """Use a factor no more, for good; it stays in the library and known to the gate."""
    return runner.records.retirements.retire(runner.records.factor(factor_id).id, principal)


@routes.get("/factors/{factor_id}/promotion")
def get_promotion(factor_id: str, _: Viewer, runner: Shared) -> Opening | None:
    """What the hold-out said of a factor; null while nobody has asked."""
    return runner.records.openings.of_factor(runner.records.factor(factor_id).id)


@routes.get("/factors/{factor_id}/appraisal", responses=refusals(503))
async def get_appraisal(factor_id: str, principal: Viewer, runner: Shared, evaluations: Evaluations) -> Appraisal:
    """All that is known of a factor in sample: its evaluation, its standing when it was tried, and robustness."""

    def appraisal() -> Appraisal:
        factor = runner.records.factor(factor_id)
        return appraised_factor(runner.settings, runner.records, runner.laboratories, factor, principal.user)

    return await to_thread.run_sync(appraisal, limiter=evaluations)


@routes.get("/runs/{run_id}/candidates")
def get_candidates(
    run: Annotated[Run, Depends(visible_run)], runner: Shared, limit: Limit = 50, cursor: str | None = None
) -> Page[CandidateRecord]:
    """A run's candidates, first finished first: what the gate said, what was measured, and what was failed."""
    items, following = runner.records.candidates(run.id, limit, cursor)
    return Page(items=items, next_cursor=following)


@routes.get("/runs/{run_id}/overfitting")
def get_overfitting(run: Annotated[Run, Depends(visible_run)], runner: Shared) -> Overfitting | None:
    """Whether choosing the best of a run's candidates chooses anything; null where too little was measured."""
    candidates, _ = runner.records.candidates(run.id, limit=None)
    return overfitting(runner.records, run, candidates)


@routes.post("/evaluations", responses=refusals(404, 429, 503))
async def post_evaluation(
    body: EvaluationRequest, principal: Researcher, runner: Shared, evaluations: Evaluations, key: RequestKey = None
) -> Appraisal:
    """Measure a formula on train and valid; the first time, that is one more trial in the team's ledger."""
    settings, records, laboratories = runner.settings, runner.records, runner.laboratories
    once = once_of(key, "evaluation", body)
    return await to_thread.run_sync(
        appraise, settings, records, laboratories, body, principal, once, limiter=evaluations
    )


@routes.get("/ledger", responses=refusals(404))
def get_ledger(_: Viewer, runner: Shared, market: str | None = None) -> list[MarketLedger]:
    """How much the team has tried on each market, and what luck alone would show."""
    markets = list_markets(runner.settings.home, market)
    return [ledger_of(runner.settings, runner.records, snapshot.market) for snapshot in markets]


@routes.get("/factors/{factor_id}/neighbours")
def get_neighbours(factor_id: str, _: Viewer, runner: Shared) -> Inspection:
    """A factor beside the published alphas, the imported ones, and the other factors of its market."""
    factor = runner.records.factor(factor_id)
    others = [other for other in runner.records.library(factor.market) if other.id != factor.id]
    known = known_alphas(runner.records.alphas(), others)
    return inspect(read(factor.formula), known, runner.settings.limits)


@routes.get("/operators")
def get_operators(_: Viewer) -> list[OperatorEntry]:
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

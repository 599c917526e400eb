"""The runner: takes a request, mines, and leaves a finished run. The command line and the service both drive it."""

import getpass
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import replace

import structlog

from app.inspection import known_alphas
from app.laboratories import Laboratories
from app.metrics import Metrics
from app.settings import Settings
from factors.alphas import published
from factors.errors import AlphaAgentError, FormulaError
from factors.hypothesis import Factor
from factors.parse import parse
from graphs.checkpoints import Saver
from graphs.machine import SuspendedError, mine
from graphs.metering import Meter
from graphs.notebook import Notebook
from graphs.offline import OfflineResearcher
from graphs.researcher import Researcher
from graphs.workbench import Workbench
from storage.engine import OUTAGES
from storage.idempotency import Once
from storage.journal import Journal
from storage.markets import Snapshot, ends, open_market
from storage.principal import Principal
from storage.records import Records
from storage.runs import FencedError, Run, RunRequest, TerminalStatus

logger = structlog.stdlib.get_logger(__name__)

OFFLINE = "offline"
MAX_SEED = 2**31


class Runner:
    """Submits and executes runs of one home; safe to share between threads.

    Args:
        settings: of the home.
        records: of its research.
        saver: keeps the checkpoints of runs; without one a run cannot go on once it was cut off.
        metrics: of the process.
    """

    def __init__(
        self, settings: Settings, records: Records, saver: Saver | None = None, metrics: Metrics | None = None
    ) -> None:
        self.settings = settings
        self.records = records
        self.metrics = metrics or Metrics()
        self._saver = saver
        self.laboratories = Laboratories(settings)

    def submit(
        self,
        request: RunRequest,
        executor: str | None = None,
        by: Principal | None = None,
        once: Once | None = None,
    ) -> Run:
        """Check a request and record it as a queued run, for any process or for that of an executor alone.

        It is this process' user's unless it is somebody else's.

        Where it was carried out ``once`` before, that is the run of then as it stands.

        Raises what :func:`check_request` does, ``SpentError`` where the user's quota has no room, and
        ``IdempotencyError`` where its key came with another request.
        """
        by, people = by or operator(), self.records.people
        known = people.earlier(by, once)
        if known is not None:
            return self.records.run(known)
        snapshot, universe, model = check_request(self.settings, request)
        limits = self.settings.limits.changed(request.limits, self.settings.loosest_limits)
        seed = secrets.randbelow(MAX_SEED) if request.seed is None else request.seed
        return self.records.create_run(
            request,
            universe=universe,
            snapshot=snapshot.id,
            seed=seed,
            model=model,
            by=by,
            limits=limits,
            executor=executor,
            quota=people.quota(by.user, self.settings.quota),
            once=once,
        )

    def runs_of(self, user: str) -> int:
        """Most runs of a user that are worked on at once."""
        return self.records.people.quota(user, self.settings.quota).concurrent_runs

    def execute(self, journal: Journal, stop: Callable[[], bool], seconds: Callable[[], float]) -> Run:
        """Mine a running run to its end; a failure is recorded on the run, which keeps what it had accepted.

        Args:
            journal: of the run.
            stop: whether the run shall end; it may raise ``SuspendedError``, which leaves the run as it stands.
            seconds: time worked since it was last counted.

        Raises:
            FencedError: another process works on the run.
            SuspendedError: see above.
            Exception: one of ``storage.engine.OUTAGES``, where the database did not answer; the run stays as it is.
        """
        run = self._begun(journal.run_id)
        try:
            with self.records.progress.report(run.id) as report:
                state = mine(replace(self.workbench(run, journal, stop), tell=report.tell), self._saver)
        except (SuspendedError, FencedError):
            raise
        except OUTAGES:
            raise
        except AlphaAgentError as error:
            return self.finish(journal, "failed", str(error), seconds=seconds())
        except Exception as error:
            logger.exception("run failed")
            return self.finish(journal, "failed", f"internal error: {type(error).__name__}", seconds=seconds())
        if state["stopped"] == "cancelled":
            return self.finish(journal, "cancelled", stopped="cancelled", seconds=seconds())
        if state["faults"] and not state["hypotheses"]:
            return self.finish(journal, "failed", state["faults"][0], seconds=seconds())
        return self.finish(journal, "succeeded", stopped=state["stopped"], seconds=seconds())

    def _begun(self, run_id: str) -> Run:
        """The run, of which it is told that it was started, or that it goes on."""
        run = self.records.run(run_id)
        resumed = self.records.all_events(run_id, {"run.resumed"})
        if run.started_at and not resumed:
            self.metrics.queue_seconds.observe((run.started_at - run.created_at).total_seconds())
        told = "run resumed" if resumed else "run started"
        logger.info(told, user=run.user, market=run.market, model=run.model)
        return run

    def finish(
        self,
        journal: Journal,
        status: TerminalStatus,
        error: str | None = None,
        *,
        stopped: str | None = None,
        seconds: float,
    ) -> Run:
        """End a run, on which so long was worked since it was last counted; its checkpoints go."""
        run = journal.finish(status, error, stopped, seconds)
        logger.info("run ended", status=run.status, stopped=run.stopped, error=run.error)
        self.forget(run.id)
        return run

    def forget(self, run_id: str) -> None:
        """Remove the checkpoints of a run that has ended."""
        if self._saver is not None:
            self._saver.delete_thread(run_id)

    def workbench(self, run: Run, journal: Journal, stop: Callable[[], bool] = bool) -> Workbench:
        """The tools of a run that has started; it goes on from what it has found before."""
        snapshot = open_market(self.settings.home, run.market, run.snapshot)
        deadline = time.monotonic() + run.budget.seconds - run.seconds
        allowance = self.records.people.quota(run.user, self.settings.quota)
        meter = Meter(journal, allowance, deadline, stop)
        first = self.records.first_like(run)
        began = (first.started_at if first else None) or run.started_at
        imported = self.records.alphas(before=began)
        # A factor that was chosen by days which are held out here would tell of them.
        known = ends(self.settings.home, run.market).items()
        past = {version for version, end in known if end <= snapshot.valid_end}
        library = [
            one
            for one in self.records.library(run.market, before=began)
            if one.snapshot in past and readable(one, snapshot.series)
        ]
        return Workbench(
            run=run,
            researcher=researcher(self.settings, run.model, meter),
            laboratory=self.laboratories.of(
                snapshot,
                run.universe,
                [*published(), *imported],
                stop=lambda: stop() or time.monotonic() >= deadline,
                announce=lambda count: journal.append("alphas.ranked", {"alphas": count}, "alphas ranked"),
            ),
            library=tuple(library),
            known=known_alphas(imported, library),
            records=self.records,
            journal=journal,
            notebook=Notebook.read(self.records, run.id),
            cancelled=stop,
            deadline=deadline,
            left=lambda name: self.records.left(run.user, allowance, name),
            begin=lambda candidate_id: journal.begin_evaluation(candidate_id, allowance),
            cutoff=self.settings.training_cutoff(run.model),
            thresholds=self.settings.thresholds,
            observe=self.metrics.node,
            spent=lambda: meter.spent or self.records.exceeded(run.user, allowance),
        )


def mine_here(runner: Runner, request: RunRequest) -> Run:
    """Mine a request to its end in this thread, for those who need no queue and nothing that lasts."""
    journal = runner.records.journal(runner.submit(request, "here").id, "here")
    journal.start()
    return runner.execute(journal, bool, float)


def check_request(settings: Settings, request: RunRequest) -> tuple[Snapshot, str, str]:
    """The snapshot, universe and model that a request means.

    Raises:
        NotFoundError: no such market or universe.
        SettingError: a model that cannot be used here, or limits looser than may be.
    """
    settings.limits.changed(request.limits, settings.loosest_limits)
    snapshot = open_market(settings.home, request.market)
    model = request.model or (settings.reasoning if settings.has_model else OFFLINE)
    if model != OFFLINE:
        settings.endpoints(model)
    return snapshot, snapshot.universe(request.universe), model


def researcher(settings: Settings, model: str, meter: Meter) -> Researcher:
    """Who plays the agents under that name, counted by a meter.

    Raises:
        SettingError: a language model that runs may not name, or without a key.
    """
    if model == OFFLINE:
        return OfflineResearcher()
    # A second of imports that offline runs go without.
    from graphs.llm import LanguageModelResearcher  # noqa: PLC0415

    return LanguageModelResearcher(*settings.endpoints(model), meter)


def current_user() -> str:
    """Who runs this process; ``local`` where the system has no name for them, as in some containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "local"


def operator() -> Principal:
    """The user of this process, who has its records in hand and so may do everything."""
    return Principal(current_user(), "admin")


def readable(factor: Factor, fields: Collection[str]) -> bool:
    """Whether these are the columns of a factor that was accepted on an earlier snapshot."""
    try:
        parse(factor.formula, tuple(fields))
    except FormulaError:
        return False
    return True

"""The runner: takes a request, mines, and leaves a finished run. The command line and the service both drive it."""

import getpass
import os
import secrets
import socket
import threading
import time
from collections.abc import Collection
from functools import cache
from queue import SimpleQueue

import structlog

from app.inspection import known_alphas
from app.metrics import Metrics
from app.observation import observed_run
from app.panels import load_panel, load_sample
from app.settings import Settings
from factors.alphas import published
from factors.errors import AlphaAgentError, FormulaError
from factors.evaluator import Evaluator
from factors.hypothesis import Factor
from factors.parse import parse
from graphs.machine import mine
from graphs.metering import Meter
from graphs.offline import OfflineResearcher
from graphs.researcher import Researcher
from graphs.workbench import Workbench
from storage.markets import Snapshot, open_market, versions
from storage.records import Records
from storage.runs import Run, RunRequest, SpentError

logger = structlog.stdlib.get_logger(__name__)

OFFLINE = "offline"
MAX_SEED = 2**31


class Runner:
    """Executes runs of one home; safe to share between threads."""

    def __init__(self, settings: Settings, records: Records, metrics: Metrics | None = None) -> None:
        self.settings = settings
        self.records = records
        self.metrics = metrics or Metrics()
        self.executor = f"{socket.gethostname()}:{os.getpid()}"
        self._stopping = threading.Event()

    def submit(self, request: RunRequest) -> Run:
        """Check a request and record it as a queued run.

        Raises what :func:`check_request` does, and ``SpentError`` where the user's allowance is used up.
        """
        snapshot, universe, model = check_request(self.settings, request)
        limits = self.settings.limits.changed(request.limits, self.settings.loosest_limits)
        user = current_user()
        used_up = self.records.exceeded(user, self.settings.allowance)
        if used_up:
            raise SpentError(used_up)
        seed = secrets.randbelow(MAX_SEED) if request.seed is None else request.seed
        return self.records.create_run(
            request,
            universe=universe,
            snapshot=snapshot.id,
            seed=seed,
            model=model,
            user=user,
            limits=limits,
            executor=self.executor,
        )

    def cancel_all(self) -> None:
        """Ask every run of this process, waiting ones too, to stop before its next evaluation."""
        self._stopping.set()

    def execute(self, run_id: str) -> Run:
        """Mine a queued run to its end; a failure is recorded on the run, which keeps what it had accepted."""
        with observed_run(run_id):
            run = self._execute(run_id)
            logger.info("run ended", status=run.status, stopped=run.stopped, error=run.error)
        return run

    def _execute(self, run_id: str) -> Run:
        if self._stopping.is_set():
            return self.records.finish_run(run_id, "cancelled")
        run = self.records.start_run(run_id, self.executor)
        logger.info("run started", user=run.user, market=run.market, model=run.model)
        if run.started_at:
            self.metrics.queue_seconds.observe((run.started_at - run.created_at).total_seconds())
        try:
            state = mine(self.workbench(run))
        except AlphaAgentError as error:
            return self.records.finish_run(run_id, "failed", str(error))
        except Exception as error:
            logger.exception("run failed")
            return self.records.finish_run(run_id, "failed", f"internal error: {type(error).__name__}")
        if state["stopped"] == "cancelled":
            return self.records.finish_run(run_id, "cancelled", stopped="cancelled")
        if state["faults"] and not state["hypotheses"]:
            return self.records.finish_run(run_id, "failed", state["faults"][0])
        return self.records.finish_run(run_id, "succeeded", stopped=state["stopped"])

    def recover(self) -> None:
        """Fail the runs whose process is gone, so that nobody waits for them."""
        # A process that starts runs nothing yet: what is in its name was left by one of the same id, as in a
        # container started again.
        for run in self.records.abandoned(lambda executor: executor != self.executor and is_alive(executor)):
            self.records.finish_run(run.id, "failed", "the process that ran it stopped")
            logger.warning("run recovered", run_id=run.id)
            self.metrics.recoveries.inc()

    def workbench(self, run: Run) -> Workbench:
        """The tools of a run that has started."""
        snapshot = open_market(self.settings.home, run.market, run.snapshot)
        panel, labels = load_panel(snapshot, run.universe)
        deadline = time.monotonic() + run.budget.seconds
        evaluator = Evaluator(panel, stop=lambda: self._stopping.is_set() or time.monotonic() >= deadline)
        allowance = self.settings.allowance
        meter = Meter(self.records, run.id, allowance, deadline, self._stopping.is_set)
        first = self.records.first_like(run)
        began = (first.started_at if first else None) or run.started_at
        imported = self.records.alphas(before=began)
        # A factor that was chosen by days which are held out here would tell of them.
        past = {one.id for one in versions(self.settings.home, run.market) if one.valid_end <= snapshot.valid_end}
        library = [
            one
            for one in self.records.library(run.market, before=began)
            if one.snapshot in past and readable(one, panel.fields)
        ]
        return Workbench(
            run=run,
            researcher=researcher(self.settings, run.model, meter),
            evaluator=evaluator,
            labels=labels,
            library=tuple(library),
            known=known_alphas(imported, library),
            sample=cache(
                lambda: load_sample(
                    snapshot,
                    run.universe,
                    [*published(), *imported],
                    evaluator,
                    lambda count: self.records.append_event(run.id, "alphas.ranked", {"alphas": count}),
                )
            ),
            records=self.records,
            cancelled=self._stopping.is_set,
            deadline=deadline,
            left=lambda name: self.records.left(run.user, allowance, name),
            cutoff=self.settings.training_cutoff(run.model),
            thresholds=self.settings.thresholds,
            observe=self.metrics.node,
            spent=lambda: meter.spent or self.records.exceeded(run.user, allowance),
        )


class RunQueue:
    """Executes runs one after another in a thread, as one keeps the cores busy by itself.

    The thread is a daemon: a run that waits for a slow model must not keep the process from ending. Its run is
    failed by the next :meth:`Runner.recover`.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._waiting: SimpleQueue[str | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="runs", daemon=True)
        self._thread.start()

    def put(self, run_id: str) -> None:
        """Execute a queued run after those put before it."""
        self._waiting.put(run_id)

    def close(self, seconds: float) -> None:
        """Cancel the runs and wait at most so many seconds for them to end."""
        self._runner.cancel_all()
        self._waiting.put(None)
        self._thread.join(seconds)

    def _work(self) -> None:
        for run_id in iter(self._waiting.get, None):
            try:
                self._runner.execute(run_id)
            except Exception:
                logger.exception("run could not be recorded", run_id=run_id)


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


def is_alive(executor: str) -> bool:
    """Whether the process that an executor names still runs; one on another host is taken to."""
    host, _, pid = executor.rpartition(":")
    if host != socket.gethostname():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def readable(factor: Factor, fields: Collection[str]) -> bool:
    """Whether these are the columns of a factor that was accepted on an earlier snapshot."""
    try:
        parse(factor.formula, tuple(fields))
    except FormulaError:
        return False
    return True

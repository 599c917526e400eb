"""The runner: takes a request, mines, and leaves a finished run. The command line and the service both drive it."""

import logging
import os
import secrets
import socket
import threading
import time
from functools import lru_cache

from app.settings import Settings
from factors.errors import AlphaAgentError, FormulaError, SettingError
from factors.hypothesis import Factor
from factors.kernels.elementwise import Values
from factors.labels import forward_return
from factors.panel import Panel
from factors.parse import parse
from graphs.llm import LanguageModelResearcher
from graphs.machine import mine
from graphs.offline import OfflineResearcher
from graphs.researcher import Researcher
from graphs.workbench import Workbench
from storage.markets import Snapshot, open_market
from storage.records import Records
from storage.runs import Run, RunRequest

logger = logging.getLogger(__name__)

OFFLINE = "offline"
MAX_SEED = 2**31


class Runner:
    """Executes runs of one home; safe to share between threads."""

    def __init__(self, settings: Settings, records: Records) -> None:
        self.settings = settings
        self.records = records
        self.executor = f"{socket.gethostname()}:{os.getpid()}"
        self._cancelled: dict[str, threading.Event] = {}

    def submit(self, request: RunRequest) -> Run:
        """Check a request and record it as a queued run.

        Raises:
            NotFoundError: no such market or universe.
            SettingError: a model that cannot be used here.
        """
        snapshot = open_market(self.settings.home, request.market)
        universe = snapshot.universe(request.universe)
        model = request.model or (self.settings.model if self.settings.openai_api_key else OFFLINE)
        self._researcher(model)
        seed = secrets.randbelow(MAX_SEED) if request.seed is None else request.seed
        run = self.records.create_run(request, universe=universe, snapshot=snapshot.id, seed=seed, model=model)
        self._cancelled[run.id] = threading.Event()
        return run

    def cancel_all(self) -> None:
        """Ask every run of this process to stop before its next evaluation."""
        for flag in list(self._cancelled.values()):
            flag.set()

    def execute(self, run_id: str) -> Run:
        """Mine a queued run to its end; a failure is recorded on the run, which keeps what it had accepted."""
        run = self.records.start_run(run_id, self.executor)
        try:
            state = mine(self._workbench(run))
        except AlphaAgentError as error:
            return self.records.finish_run(run_id, "failed", str(error))
        except Exception as error:
            logger.exception("run %s failed", run_id)
            return self.records.finish_run(run_id, "failed", f"internal error: {type(error).__name__}")
        finally:
            self._cancelled.pop(run_id, None)
        return self.records.finish_run(run_id, "cancelled" if state["stopped"] == "cancelled" else "succeeded")

    def recover(self) -> None:
        """Fail the runs whose process is gone, so that nobody waits for them."""
        for run in self.records.abandoned(is_alive):
            self.records.finish_run(run.id, "failed", "the process that ran it stopped")

    def _workbench(self, run: Run) -> Workbench:
        snapshot = open_market(self.settings.home, run.market)
        panel, label = load_panel(snapshot, run.universe)
        first = self.records.first_like(run)
        library = self.records.library(run.market, before=(first or run).created_at)
        cancelled = self._cancelled.setdefault(run.id, threading.Event())
        return Workbench(
            run=run,
            researcher=self._researcher(run.model),
            panel=panel,
            label=label,
            library=tuple(factor for factor in library if _readable(factor, panel)),
            records=self.records,
            cancelled=cancelled.is_set,
            deadline=time.monotonic() + run.budget.seconds,
        )

    def _researcher(self, model: str) -> Researcher:
        if model == OFFLINE:
            return OfflineResearcher()
        key = self.settings.openai_api_key
        if key is None:
            raise SettingError(f"model {model} needs OPENAI_API_KEY to be set; without a key use model {OFFLINE!r}")
        return LanguageModelResearcher(model, key, self.settings.openai_base_url, self.settings.model_timeout)


@lru_cache(maxsize=2)
def load_panel(snapshot: Snapshot, universe: str) -> tuple[Panel, Values]:
    """A snapshot's panel and its labels; the two last used are kept, as a panel takes seconds to lay out."""
    panel = Panel.from_bars(snapshot.bars(universe), snapshot.train_end)
    return panel, forward_return(panel)


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


def _readable(factor: Factor, panel: Panel) -> bool:
    """Whether the panel has the columns of a factor that was accepted on an earlier snapshot."""
    try:
        parse(factor.formula, tuple(panel.fields))
    except FormulaError:
        return False
    return True

"""Laboratories whose work is done by worker processes, which can be killed without hurting whoever asked.

A worker holds one market among the members of one universe, and does one thing at a time. There are a few for all runs
and requests of a process: each request takes one that is free and holds the right market, or another one is started in
the place of one that is not needed now. One that dies, takes too long or is not wanted any more is killed with its
whole process group, and the next request has a fresh one.
"""

import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

from pydantic import ValidationError

from app.messages import (
    ANSWER,
    IDLE_SECONDS,
    Answer,
    Compare,
    Compared,
    Examine,
    Examined,
    Exhausted,
    Expect,
    Expected,
    Measure,
    Measured,
    Opened,
    Opening,
    Prove,
    Proven,
    Ranking,
    Request,
    receive,
    send,
)
from app.processes import epitaph, kill, start
from app.settings import Settings
from factors.alphas import Alpha
from factors.certificate import Certificate
from factors.errors import AlphaAgentError, EvaluationStoppedError, MeasurementError
from factors.evaluation import Evidence, SplitMetrics
from factors.expression import Expr
from factors.kernels.elementwise import Values
from factors.mapping import array_bytes, bytes_array
from factors.measurement import Measurement
from factors.panel import Dates
from factors.plan import in_sharing_order
from factors.robustness import Robustness
from graphs.laboratory import Laboratory
from storage.markets import Snapshot

_WORKER: Final = "app.worker"
POLL_SECONDS: Final = 0.1  #: between looks at whether to go on waiting
STARTING_SECONDS: Final = 30.0  #: that a worker with nothing to do may take from its start to its end
OPENING_SECONDS: Final = 600.0  #: that a worker may take to start and to lay a market out
LAST_WORDS_SECONDS: Final = 1.0  #: that one that has closed its end may take to tell how it ended

Wanted = TypeVar("Wanted", bound=Answer)


class WorkerError(AlphaAgentError):
    """A worker process that could not be started."""


class Laboratories:
    """The workers of a process; safe to share between threads. They end with this object at the latest."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._turn = threading.Condition()
        self._idle: list[Worker] = []  # the one that was used last comes last
        self._busy = 0
        self._trying = threading.Lock()
        self._started = float("-inf")  # ``time.monotonic()`` when a worker was last seen to start
        self.closed = False  #: whether all work is given up

    def of(
        self,
        snapshot: Snapshot,
        universe: str,
        alphas: Iterable[Alpha] = (),
        stop: Callable[[], bool] = lambda: False,
        announce: Callable[[int], object] = lambda _: None,
    ) -> Laboratory:
        """A laboratory on a snapshot.

        Args:
            snapshot: the version of a market.
            universe: one of its universes.
            alphas: what formulas are compared with beside peers.
            stop: asked all the while; once it is true the work is given up at once. What it raises is raised.
            announce: called with the number of alphas before they are ranked, which takes some seconds.
        """
        opening = Opening(
            snapshot=snapshot,
            universe=universe,
            alphas=tuple((alpha.name, str(alpha.expr), alpha.source) for alpha in alphas),
            memory=self._settings.worker_memory,
        )
        return _WorkerLaboratory(self, opening, self._settings.candidate_seconds, stop, announce)

    @contextmanager
    def lend(self, opening: Opening, before: "Worker | None", go_on: Callable[[], None]) -> Iterator["Worker"]:
        """A worker for one request, that of the request before where it is free.

        Raises:
            WorkerError: none could be started.
            Exception: whatever ``go_on`` raises, which is called while there is something to wait for.
        """
        worker = self._taken(opening, before, go_on)
        try:
            if worker is None:
                self._started = float("-inf")
                worker = Worker(opening, go_on)
                self._started = time.monotonic()
            yield worker
        finally:
            with self._turn:
                self._busy -= 1
                if worker and worker.is_alive:
                    worker.used = time.monotonic()
                    self._idle.append(worker)
                self._turn.notify()

    def check(self) -> None:
        """Make sure that workers can be started: one was within the last minutes, or one without a task can be now.

        Raises:
            WorkerError: it could not.
        """
        with self._trying:
            if time.monotonic() - self._started > IDLE_SECONDS:
                _try()
                self._started = time.monotonic()

    def close(self) -> None:
        """Give up all work and end all workers."""
        with self._turn:
            self.closed = True
            while self._idle:
                self._idle.pop().kill()
            self._turn.notify_all()

    def _taken(self, opening: Opening, before: "Worker | None", go_on: Callable[[], None]) -> "Worker | None":
        """A free worker for this opening, or ``None`` and room for a new one."""
        with self._turn:
            while self._busy == self._settings.workers:
                self._turn.wait(POLL_SECONDS)
                go_on()
            go_on()
            self._busy += 1
            fresh = time.monotonic() - IDLE_SECONDS
            for worker in [one for one in self._idle if one.used < fresh or not one.is_alive]:
                self._discard(worker)
            fitting = [worker for worker in self._idle if worker.opening == opening]
            if fitting:
                worker = max(fitting, key=lambda one: one is before)
                self._idle.remove(worker)
                return worker
            if self._idle and len(self._idle) + self._busy > self._settings.workers:
                self._discard(self._idle[0])
            return None

    def _discard(self, worker: "Worker") -> None:
        self._idle.remove(worker)
        worker.kill()


class Worker:
    """A worker process from its start to its end; for one caller at a time.

    Attributes:
        opening: what it is for.
        dates: the market's calendar.
        settlement: days after which what was bought there may be sold.
        used: ``time.monotonic()`` when it last answered.
    """

    def __init__(self, opening: Opening, go_on: Callable[[], None]) -> None:
        self.opening, self.used = opening, time.monotonic()
        try:
            self._process, self._end, life = start(_WORKER)
        except OSError as error:
            raise WorkerError(f"no worker process could be started: {error}") from error
        self._end.settimeout(POLL_SECONDS)
        self.kill = weakref.finalize(self, kill, self._process, self._end, life)
        try:
            opened = self.ask(opening, Opened, OPENING_SECONDS, go_on, lambda _: None)
        except MeasurementError as error:
            raise WorkerError(f"no worker process could be started: {error}") from error
        self.dates: Dates = bytes_array(opened.dates)
        self.settlement = opened.settlement

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def ask(
        self,
        request: Opening | Request,
        wanted: type[Wanted],
        seconds: float,
        go_on: Callable[[], None],
        announce: Callable[[int], object],
    ) -> Wanted:
        """The answer to a request; where there is none the process is killed.

        Raises:
            MeasurementError: it took more seconds or memory than it may, or died.
            Exception: whatever ``go_on`` raises, which is called all the while.
        """
        deadline = time.monotonic() + seconds

        def waiting() -> None:
            go_on()
            if time.monotonic() >= deadline:
                raise MeasurementError(f"it took longer than the {seconds:g} seconds that it may")

        try:
            send(self._end, request, waiting)
            while isinstance(answer := ANSWER.validate_json(receive(self._end, waiting)), Ranking):
                announce(answer.alphas)
                deadline = time.monotonic() + seconds * answer.alphas
        except (OSError, ValidationError) as error:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(LAST_WORDS_SECONDS)
            self.kill()
            raise MeasurementError(epitaph(self._process)) from error
        except BaseException:
            self.kill()
            raise
        if isinstance(answer, wanted):
            return answer
        self.kill()
        limit = f"the {self.opening.memory >> 20} MiB of memory that it may"
        raise MeasurementError(
            f"it took more than {limit}" if isinstance(answer, Exhausted) else epitaph(self._process)
        )


def _try() -> None:
    """Start a worker, which ends at once as nothing is asked of it."""
    try:
        process, end, life = start(_WORKER)
    except OSError as error:
        raise WorkerError(f"no worker process could be started: {error}") from error
    end.close()
    try:
        status = process.wait(STARTING_SECONDS)
    except subprocess.TimeoutExpired:
        kill(process)
        raise WorkerError(f"a worker process did not start within {STARTING_SECONDS:g} seconds") from None
    finally:
        life.close()
    if status:
        raise WorkerError(f"no worker process could be started: it ended with status {status}")


class _WorkerLaboratory:
    """A laboratory on one snapshot whose requests go to whichever worker is free."""

    def __init__(
        self,
        laboratories: Laboratories,
        opening: Opening,
        seconds: float,
        stop: Callable[[], bool],
        announce: Callable[[int], object],
    ) -> None:
        self._laboratories, self._opening, self._seconds = laboratories, opening, seconds
        self._stop, self._announce = stop, announce
        self._before: Worker | None = None
        self._calendar: tuple[Dates, int] | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        return self._opening.snapshot.series

    @property
    def dates(self) -> Dates:
        return self._told()[0]

    @property
    def settlement(self) -> int:
        return self._told()[1]

    def _told(self) -> tuple[Dates, int]:
        if self._calendar is None:
            with self._laboratories.lend(self._opening, self._before, self._go_on) as worker:
                self._calendar = worker.dates, worker.settlement
        return self._calendar

    def expect(self, formulas: Sequence[Expr]) -> list[Expr]:
        with suppress(MeasurementError):  # what was not announced is computed all the same
            self._ask(Expect(formulas=tuple(map(str, formulas))), Expected)
        return in_sharing_order(formulas)

    def measure(self, formula: Expr) -> Measurement:
        found = self._ask(Measure(formula=str(formula)), Measured)
        return Measurement(found.splits, found.evidence, bytes_array(found.rank_ic))

    def beside(self, formula: Expr, peers: Sequence[Expr]) -> tuple[dict[str, float], float]:
        found = self._ask(Compare(formula=str(formula), peers=tuple(map(str, peers))), Compared)
        return dict(found.correlations), found.marginal

    def prove(self, formula: Expr, seed: int) -> Certificate:
        return self._ask(Prove(formula=str(formula), seed=seed), Proven).certificate

    def robustness(self, rank_ic: Values, evidence: Evidence, splits: Mapping[str, SplitMetrics]) -> Robustness:
        request = Examine(rank_ic=array_bytes(rank_ic), evidence=evidence, splits=splits)
        return self._ask(request, Examined).robustness

    def _ask(self, request: Request, wanted: type[Wanted]) -> Wanted:
        with self._laboratories.lend(self._opening, self._before, self._go_on) as worker:
            self._before = worker
            return worker.ask(request, wanted, self._seconds, self._go_on, self._announce)

    def _go_on(self) -> None:
        if self._laboratories.closed or self._stop():
            raise EvaluationStoppedError("the evaluation was stopped")

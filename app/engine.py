"""The engine: works on runs in this process, each as one durable DBOS workflow whose id is the run's.

1. A run that was posted waits in the queue of the records. An engine with room claims the next one: from then on the
   run is this process's, and nobody else can write to it.
2. It starts a workflow for it, which runs the state machine; LangGraph keeps a checkpoint after each step.
3. The engine beats its heart in the records. Where another's stands still, or its process is gone from this machine,
   its runs are claimed again, and their workflows resumed here, from their last checkpoints. Its imports have failed.
4. Every hour it removes what is not to be kept: old events, and what is left of the work on runs that have ended.
5. A process that ends leaves its runs: each stops at the next step, and goes on in whatever process comes next.
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Final

import structlog
from dbos import DBOS, SetWorkflowID

from app.metrics import Metrics
from app.observation import observed_run
from app.runner import Runner
from app.settings import Settings
from app.workflows import PROTOCOL, configuration
from factors.errors import DataError
from graphs.checkpoints import open_checkpoints
from graphs.machine import SuspendedError
from storage.engine import OUTAGES
from storage.journal import Journal
from storage.records import Records
from storage.runs import FencedError, RunStateError

logger = structlog.stdlib.get_logger(__name__)

BEAT_SECONDS: Final = 2.0
LEASE_SECONDS: Final = 10.0  #: without a heartbeat, after which a process is taken for dead
POLL_SECONDS: Final = 0.5  #: between looks at the queue
DRAIN_SECONDS: Final = 5.0  #: that runs have to stop when their process ends
SWEEP_SECONDS: Final = 3600.0  #: between removals of what is not to be kept
SETTLED: Final = timedelta(hours=1)  #: since the end of a run, after which nobody is about to tell DBOS of it any more
WORKFLOW: Final = "mining"  #: its name in DBOS
_BATCH: Final = 1000  # workflows that are swept away at once
_OVER: Final = frozenset({"SUCCESS", "ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"})


@dataclass(slots=True)
class Work:
    """A run that this process works on.

    Attributes:
        journal: where it is written.
        suspended: why it shall stop where it stands, empty while it shall not.
        cancelled: whether somebody has asked to end it.
    """

    journal: Journal
    suspended: str = ""
    cancelled: bool = False
    _counted: float = field(default_factory=time.monotonic)

    def stop(self) -> bool:
        """Whether the run shall end.

        Raises:
            SuspendedError: it shall stop where it stands.
        """
        if self.suspended:
            raise SuspendedError(self.suspended)
        return self.cancelled

    def seconds(self) -> float:
        """Time worked since this was asked before."""
        before, self._counted = self._counted, time.monotonic()
        return self._counted - before


class Heartbeats:
    """Who of the other executors has died, by this process's clock alone: those of two machines may differ."""

    def __init__(self, executor: str, lease: float = LEASE_SECONDS) -> None:
        self._executor, self._lease = executor, lease
        self._seen: dict[str, tuple[int, float]] = {}

    def dead(self, owners: Iterable[str], beats: dict[str, int]) -> set[str]:
        """Executors, owners of runs or not, whose process is gone or whose heart has stood still as long as the lease.

        Args:
            owners: executors that have runs; one of them may have died before its heart has ever beaten.
            beats: how often each one's has.
        """
        now = time.monotonic()
        others = {*owners, *beats} - {self._executor}
        for one in others:
            count = beats.get(one, 0)
            if self._seen.get(one, (-1, 0.0))[0] != count:
                self._seen[one] = count, now
        self._seen = {one: self._seen[one] for one in others}
        return {one for one in others if is_gone(one) or now - self._seen[one][1] > self._lease}


class RunEngine:
    """Works on runs until it is closed; one in a process.

    Args:
        runner: who executes a run.
        room: runs to work on at once out of the queue; 0 to work only on those that are given to :meth:`work_on`.
    """

    def __init__(self, runner: Runner, room: int) -> None:
        self.runner, self._room = runner, room
        self.executor = f"{machine()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._queue = runner.records.queue
        self._heartbeats = Heartbeats(self.executor)
        self._work: dict[str, Work] = {}
        self._launching = threading.Lock()
        self._wake, self._closing = threading.Event(), threading.Event()
        # Heartbeats must not wait for a long removal.
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (("engine", self._attend), ("sweeper", self._tidy))
        ]

    def start(self) -> None:
        """Begin to work."""
        _current.append(self)
        self._queue.beat(self.executor)
        DBOS(config=configuration(self.runner.settings.workflows_url, self.executor))
        DBOS.listen_queues([self.executor])
        DBOS.launch()
        for thread in self._threads:
            thread.start()

    @property
    def working(self) -> frozenset[str]:
        """The runs that are worked on here."""
        return frozenset(self._work)

    def wake(self) -> None:
        """Look at the queue now."""
        self._wake.set()

    def work_on(self, run_id: str) -> None:
        """Start a queued run that waits for this process."""
        with self._launching:  # or it could be taken for one whose workflow was lost
            self.runner.records.journal(run_id, self.executor).start()
            self._launch(run_id)

    def close(self, seconds: float) -> None:
        """Have the runs stop where they stand, wait at most so long for them, and leave them to whoever comes next."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._wake.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        for work in list(self._work.values()):
            work.suspended = "the process is about to end"
        deadline = time.monotonic() + seconds
        while self._work and time.monotonic() < deadline:
            time.sleep(0.02)
        self.runner.laboratories.close()
        try:
            self._queue.leave(self.executor)  # which shuts out those that have not stopped
            DBOS.delete_queue(self.executor)
        except OUTAGES as reason:
            logger.warning("runs are left to whoever takes this process for dead", reason=str(reason))
        DBOS.destroy()
        _current.remove(self)

    def sweep(self, settled: timedelta = SETTLED) -> None:
        """Remove old events, and the checkpoints and workflows of runs that ended so long ago; any process may."""
        records = self.runner.records
        pruned = records.pruner.prune(self.runner.settings.retention, self._closing.is_set)
        if pruned:
            logger.info("events removed", runs=len(pruned))
        while not self._closing.is_set():
            oldest = DBOS.list_workflows(name=WORKFLOW, limit=_BATCH, load_input=False, load_output=False)
            ended = self._queue.ended({one.workflow_id for one in oldest}, datetime.now(UTC) - settled)
            if not ended:
                return
            for run_id in ended:  # a run has a workflow before it has checkpoints, so those are found by these
                self.runner.forget(run_id)
            DBOS.delete_workflows(list(ended))

    def execute(self, run_id: str) -> None:
        """The body of the workflow: work on a run that this process holds, to its end or until it shall stop."""
        work = self._work.get(run_id)
        if work is None:
            logger.warning("run is not this process's to work on", run_id=run_id)
            return
        try:
            with observed_run(run_id):
                self._work_on(work)
        finally:
            del self._work[run_id]
            self._wake.set()

    def _work_on(self, work: Work) -> None:
        try:
            self.runner.execute(work.journal, work.stop, work.seconds)
        except (SuspendedError, FencedError) as reason:
            logger.info("run stops here", reason=str(reason))
        except OUTAGES as reason:
            # It is still this process's: it is begun again from its checkpoint once the queue can be read.
            logger.warning("run waits for its database", reason=str(reason))
            self._closing.wait(BEAT_SECONDS)

    def _attend(self) -> None:
        """Beat, heed those who cancel, and claim runs, until the engine is closed; an outage of the records passes."""
        beats: dict[str, int] = {}
        beaten = float("-inf")
        while not self._closing.is_set():
            try:
                if time.monotonic() - beaten >= BEAT_SECONDS:
                    beats, beaten = self._beat(), time.monotonic()
                for run_id in self._queue.cancelling(self.executor) & self.working:
                    self._cancel(run_id)
                self._claim(beats)
            except Exception:
                logger.exception("the queue could not be attended to")
                self._closing.wait(BEAT_SECONDS)
            self._wake.wait(POLL_SECONDS)
            self._wake.clear()

    def _tidy(self) -> None:
        """Sweep at once, as processes may be short-lived, and every hour, until the engine is closed."""
        while True:
            try:
                self.sweep()
            except Exception:
                logger.exception("what is not to be kept could not be removed")
            if self._closing.wait(SWEEP_SECONDS):
                return

    def _beat(self) -> dict[str, int]:
        beats = self._queue.beat(self.executor)
        for work in list(self._work.values()):
            try:
                work.journal.work(work.seconds())
            except FencedError as reason:
                work.suspended = str(reason)
            except RunStateError:
                continue  # it has ended meanwhile
        return beats

    def _cancel(self, run_id: str) -> None:
        work = self._work.get(run_id)
        if work is not None:
            work.cancelled = True

    def _claim(self, beats: dict[str, int]) -> None:
        with self._launching:
            for lost in self._queue.of(self.executor) - self.working:
                self._launch(lost)  # its workflow could not be started, or its end could not be recorded
        if not self._room:
            return
        importing = self.runner.records.imports.owners()
        dead = self._heartbeats.dead(self._queue.owners() | importing, beats)
        if dead & importing:
            self.runner.records.imports.interrupt(dead)
        if dead & beats.keys():
            self._queue.forget(dead)
            for executor in dead:
                DBOS.delete_queue(executor)
        while len(self._work) < self._room and not self._closing.is_set():
            run_id = self._queue.claim(self.executor, self._room, self.runner.runs_of, dead)
            if run_id is None:
                return
            self._launch(run_id)

    def _launch(self, run_id: str) -> None:
        work = self._work[run_id] = Work(self.runner.records.journal(run_id, self.executor))
        try:
            self._start_workflow(run_id)
        except DataError as reason:
            del self._work[run_id]
            with observed_run(run_id):
                logger.error("the workflow of a run was refused", reason=str(reason))  # noqa: TRY400
                self.runner.finish(work.journal, "failed", str(reason), seconds=work.seconds())
        except BaseException:
            del self._work[run_id]
            raise

    def _start_workflow(self, run_id: str) -> None:
        status = DBOS.get_workflow_status(run_id)
        if status is not None and status.status not in _OVER:
            if status.input != {"args": (run_id,), "kwargs": {}}:  # what DBOS could not read is a text here
                raise DataError("the run's workflow is not stored as this version stores it, and is not read")
            if (status.name, status.app_version) == (WORKFLOW, PROTOCOL):
                # Not before it is needed: all processes read the list of queues every second, so it must not grow.
                DBOS.register_queue(self.executor, polling_interval_sec=POLL_SECONDS)
                DBOS.resume_workflow(run_id, queue_name=self.executor)
                return
        if status is not None:
            # It stopped where it stood, or is another version's: all that it has done is in the records.
            DBOS.delete_workflow(run_id)
        with SetWorkflowID(run_id):
            DBOS.start_workflow(mining, run_id)


@contextmanager
def run_engine(settings: Settings, room: int, metrics: Metrics | None = None) -> Iterator[RunEngine]:
    """An engine at work over a home, until the end of the block.

    Raises:
        SettingError: the records or the checkpoints cannot be opened.
    """
    with (
        Records.open(settings.records_url) as records,
        open_checkpoints(settings.records_url, settings.checkpoints_file) as saver,
    ):
        engine = RunEngine(Runner(settings, records, saver, metrics), room)
        try:
            engine.start()
            yield engine
        finally:
            engine.close(DRAIN_SECONDS)


_current: Final[list[RunEngine]] = []  # DBOS knows one instance in a process


@DBOS.workflow(name=WORKFLOW)
def mining(run_id: str) -> None:
    """The workflow of a run; all that it has done is in the records and the checkpoints."""
    _current[-1].execute(run_id)


@cache
def machine() -> str:
    """What numbers the processes that this one sees: hosts and containers may have a name in common."""
    marks = [socket.gethostname()]
    with suppress(OSError):
        marks.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8])
        marks.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return "/".join(marks)


def is_gone(executor: str) -> bool:
    """Whether the process that an executor names has ended, as far as this one can see."""
    where, _, rest = executor.partition(":")
    pid = rest.partition(":")[0]
    if where != machine() or not pid.isdigit():
        return False
    if int(pid) == os.getpid():
        return True  # its number is this process's now
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False

"""How far runs are, told as they work: a column that is written over, not rows of the log."""

import logging
import threading
from types import TracebackType
from typing import Final, Self

from sqlalchemy import Engine, Text, select, type_coerce, update
from sqlalchemy.exc import SQLAlchemyError

from storage.engine import reading, writing
from storage.runs import Progress
from storage.schema import runs

logger = logging.getLogger(__name__)

SECONDS_BETWEEN: Final = 0.2


class ProgressBoard:
    """Where running runs tell how far they are; thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def report(self, run_id: str) -> "ProgressReport":
        """What a run tells its progress with."""
        return ProgressReport(self, run_id)

    def write(self, run_id: str, progress: Progress) -> None:
        """Set how far a run is; one that is not running stays as it is."""
        running = (runs.c.id == run_id) & (runs.c.status == "running")
        with writing(self._engine) as connection:
            connection.execute(update(runs).where(running).values(progress=progress))

    def running(self) -> dict[str, bytes]:
        """The JSON text of the :class:`storage.runs.Progress` of each running run that has told one."""
        text = type_coerce(runs.c.progress, Text)
        query = select(runs.c.id, text).where(runs.c.status == "running", text != "null")
        with reading(self._engine) as connection:
            return {run_id: progress.encode() for run_id, progress in connection.execute(query)}


class ProgressReport:
    """Tells the progress of one run at most five times a second, while it is open.

    :meth:`tell` returns at once. A thread writes the last that was told; what was told before it within a fifth of a
    second is left out. A database that cannot be written to is logged and costs the run nothing.
    """

    def __init__(self, board: ProgressBoard, run_id: str) -> None:
        self._board, self._run_id = board, run_id
        self._told: Progress | None = None
        self._news, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"progress of {run_id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._news.set()
        self._thread.join()

    def tell(self, progress: Progress) -> None:
        """How far the run is now; safe from any thread."""
        self._told = progress
        self._news.set()

    def _work(self) -> None:
        while self._news.wait() and not self._closing.is_set():
            self._news.clear()
            try:
                if self._told is not None:
                    self._board.write(self._run_id, self._told)
            except SQLAlchemyError:
                logger.exception("the progress of run %s could not be written", self._run_id)
            self._closing.wait(SECONDS_BETWEEN)

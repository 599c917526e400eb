"""Imports that the service works on, each in a process of its own, which a thread here follows into the records.

So an import takes nothing from other requests, does not end with the client that asked for it, and is told as failed
where the server ends before it: at once where the server is stopped, and by whatever server comes next where it was
killed, see :meth:`storage.imports.Imports.interrupt`. The process ends with the server in any case.
"""

import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from socket import socket
from typing import Final

import structlog
from pydantic import ValidationError
from uuid_utils import uuid7

from app.datasets import dataset
from app.importer import WORD, Counted, Done, Order, Refused, Told
from app.messages import receive, send
from app.processes import epitaph, start
from app.settings import Settings
from storage.engine import OUTAGES
from storage.idempotency import Once
from storage.imports import INTERRUPTED, Import, ImportRequest
from storage.markets import ends
from storage.principal import Principal
from storage.records import Records
from storage.reference import REFERENCE

logger = structlog.stdlib.get_logger(__name__)

_IMPORTER: Final = "app.importer"
_LAST_WORDS_SECONDS: Final = 1.0  # that a process which has closed its end may take to end
_AGAIN_SECONDS: Final = 1.0  # between attempts to record an end while the records do not answer
_CLOSING_SECONDS: Final = 5.0  # that what was worked on may take to be recorded


@dataclass(frozen=True, slots=True)
class Work:
    """An import that is worked on here, by whom it was asked, the process, and what leads to it."""

    id: str
    by: Principal
    process: subprocess.Popen[bytes]
    end: socket
    life: socket


class Importers:
    """Works on imports until it is closed; one in a server, whose executor owns them; thread-safe."""

    def __init__(self, settings: Settings, records: Records, executor: str) -> None:
        self._settings, self._records, self._executor = settings, records, executor
        self._closing = threading.Event()
        self._work: dict[str, tuple[Work, threading.Thread]] = {}
        self._turn = threading.Lock()

    def start(self, market: str, request: ImportRequest, by: Principal, once: Once | None = None) -> Import:
        """Begin an import; where the same was asked ``once`` before, that one as it stands.

        Raises:
            SettingError: ``market`` cannot be a market's name.
            NotFoundError: no such data set.
            DataError: a data set leads out of the import folder.
            RunStateError: another import of the market is running.
            IdempotencyError: its key came with another request.
        """
        known = self._records.people.earlier(by, once)
        if known is not None:
            return self._records.imports.get(market, known)
        order = self._order(market, request)
        with self._turn:  # or what begins while the server ends could be followed by nobody
            import_id, imports = str(uuid7()), self._records.imports
            begun = imports.begin(import_id, market, request, by=by, executor=self._executor, once=once)
            if begun.id == import_id:
                self._launch(begun, order, by)
        return self._records.imports.get(market, begun.id)

    def close(self) -> None:
        """End what is worked on, and record that."""
        self._closing.set()
        with self._turn:
            left = list(self._work.values())
        for work, _ in left:
            work.process.kill()
        for _, thread in left:
            thread.join(_CLOSING_SECONDS)

    def _order(self, market: str, request: ImportRequest) -> Order:
        ends(self._settings.home, market)  # which refuses a name that cannot be
        folder = self._settings.import_folder
        beside = partial(dataset, folder, file=True)
        return Order(
            home=self._settings.home.absolute(),
            market=market,
            source=dataset(folder, request.dataset),
            reference={table: beside(name) for table in REFERENCE if (name := getattr(request, table)) is not None},
            layout=request.layout,
            train_end=request.train_end,
            valid_end=request.valid_end,
            holdout=request.holdout,
            rules=request.rules,
            accept=request.accept,
            append=request.append,
        )

    def _launch(self, begun: Import, order: Order, by: Principal) -> None:
        if self._closing.is_set():
            self._records.imports.fail(begun.id, INTERRUPTED)
            return
        try:
            work = Work(begun.id, by, *start(_IMPORTER))
        except OSError as error:
            self._records.imports.fail(begun.id, f"no process could be started for it: {error}")
            return
        thread = threading.Thread(target=self._follow, args=(work, order), name=f"import {begun.id}", daemon=True)
        self._work[begun.id] = work, thread
        thread.start()

    def _follow(self, work: Work, order: Order) -> None:
        """Follow an import to its end, and record what it tells."""
        imports = self._records.imports
        logger.info("import begun", import_id=work.id, market=order.market, user=work.by.user)
        try:
            outcome = self._listen(work, order)
        except Exception as error:
            logger.exception("an import could not be followed", import_id=work.id)
            outcome = Refused(error=f"internal error: {type(error).__name__}")
        finally:
            work.process.kill()
            work.process.wait()
            work.end.close()
            work.life.close()
        if isinstance(outcome, Done):
            self._record(lambda: imports.finish(work.id, outcome.report, work.by))
        else:
            self._record(lambda: imports.fail(work.id, outcome.error))
        with self._turn:
            del self._work[work.id]
        logger.info("import ended", import_id=work.id, market=order.market, outcome=outcome.kind)

    def _listen(self, work: Work, order: Order) -> Done | Refused:
        try:
            send(work.end, order, lambda: None)
            while True:
                match WORD.validate_json(receive(work.end, lambda: None)):
                    case Told(line=line):
                        self._try(partial(self._records.imports.tell, work.id, line))
                    case Counted(rows_done=done, rows_total=total):
                        self._try(partial(self._records.imports.count, work.id, done, total))
                    case outcome:
                        return outcome
        except (OSError, ValidationError):
            if self._closing.is_set():
                return Refused(error=INTERRUPTED)
            with suppress(subprocess.TimeoutExpired):
                work.process.wait(_LAST_WORDS_SECONDS)
            work.process.kill()
            work.process.wait()
            return Refused(error=epitaph(work.process))

    def _try(self, record: Callable[[], object]) -> None:
        """Record what may be lost."""
        with suppress(*OUTAGES):
            record()

    def _record(self, record: Callable[[], object]) -> None:
        """Record what must not be lost: while the server lives nobody else will."""
        while True:
            try:
                record()
            except OUTAGES as reason:
                logger.warning("the end of an import waits for the records", reason=str(reason))
                if self._closing.wait(_AGAIN_SECONDS):
                    return
            else:
                return

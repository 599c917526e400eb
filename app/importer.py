"""A process that imports: ``python -m app.importer END LIFE`` makes one market for the process that has started it.

It is one of :mod:`app.processes`: it is told what to import, tells how far it is, and ends with what has come of it.
Killed at any time it leaves the market as it was, or whole as it was to be.
"""

import logging
import os
import sys
import time
from datetime import date
from pathlib import Path
from socket import socket
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from app import logs
from app.importing import import_source
from app.messages import Message, receive, send
from app.processes import end_with, give_way, leave
from factors.errors import AlphaAgentError
from factors.prose import on_one_line
from storage.reports import ImportReport
from storage.watch import HASH

logger = logging.getLogger(__name__)

COUNT_SECONDS: Final = 0.5  #: between two times that it tells how far it is


class Order(Message):
    """What to import; the arguments of :func:`app.importing.import_source`."""

    home: Path
    market: str
    source: Path
    reference: dict[str, Path]
    layout: str
    train_end: date | None
    valid_end: date | None
    holdout: bool
    rules: str
    accept: tuple[str, ...]
    append: bool


class Told(Message):
    """What is worth saying of the source."""

    kind: Literal["told"] = "told"
    line: str


class Counted(Message):
    """How many rows were read, and of how many."""

    kind: Literal["counted"] = "counted"
    rows_done: int
    rows_total: int


class Done(Message):
    """The market has been made."""

    kind: Literal["done"] = "done"
    report: ImportReport


class Refused(Message):
    """It cannot be made, and why."""

    kind: Literal["refused"] = "refused"
    error: str


Word: TypeAlias = Told | Counted | Done | Refused

WORD: TypeAdapter[Word] = TypeAdapter(Annotated[Word, Field(discriminator="kind")])


def main() -> None:
    """Import what the process orders that has started this one."""
    end, life = (socket(fileno=int(descriptor)) for descriptor in sys.argv[1:])
    end_with(life)
    logs.configure(logging.WARNING)
    give_way()
    try:
        send(end, _outcome(Order.model_validate_json(receive(end, leave)), end), leave)
    except ConnectionError:  # the other process has closed its end
        leave()
    except Exception:
        logger.exception("an import failed")
        os._exit(1)


def _outcome(order: Order, end: socket) -> Done | Refused:
    told = float("-inf")

    def progress(stage: str, rows_done: int, rows_total: int) -> None:
        nonlocal told
        if stage == HASH and (rows_done == rows_total or time.monotonic() - told > COUNT_SECONDS):
            told = time.monotonic()
            send(end, Counted(rows_done=rows_done, rows_total=rows_total), leave)

    def tell(line: str) -> None:
        send(end, Told(line=on_one_line(line)), leave)

    options: dict[str, Any] = {name: value for name, value in order if name != "reference"}
    try:
        return Done(report=import_source(**options | order.reference, tell=tell, progress=progress))
    except ConnectionError:
        raise
    except (AlphaAgentError, OSError) as error:
        return Refused(error=on_one_line(str(error)))


if __name__ == "__main__":
    main()

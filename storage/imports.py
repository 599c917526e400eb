"""Imports that somebody has asked the service for: what they asked, how far it is, and what it has come to.

An import belongs to the executor (see :mod:`storage.queue`) whose process works on it; where that one has died it has
failed, and can be asked for again: a market is as it was before, or whole as it was to be.
"""

from collections.abc import Collection
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, StringConstraints
from sqlalchemy import ColumnElement, Engine, Row, Update, insert, select, update

from factors.errors import NotFoundError
from storage import audit, idempotency
from storage.engine import reading, writing
from storage.idempotency import Once
from storage.layouts import AUTO, NAMES
from storage.principal import Principal
from storage.quality import RULES
from storage.reports import ImportReport
from storage.runs import RunStateError
from storage.schema import imports
from storage.trading_rules import NO_RULES, RULE_SETS

ImportStatus = Literal["running", "done", "failed"]
Dataset = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
"""The id of an entry of the import folder: the name of a folder, or of a file without its ``.parquet`` or ``.csv``."""

MOST_TOLD: Final = 1000  #: lines that are kept of an import
INTERRUPTED: Final = "it was interrupted: the server that worked on it ended; it can be asked for again"


class ImportRequest(BaseModel):
    """What to import: data sets of the server's import folder, see :func:`storage.ingest.import_market`.

    Attributes:
        dataset: the bars, a file or a folder.
        membership: a file of who belongs to which index.
        sectors: a file of sectors.
        tickers: a file of which instrument a symbol stood for.
        delistings: a file of what holders got after the last bar.
        benchmark: a file of closes of indices.
        layout: how the bars are laid out; told from what is there unless it is named.
        train_end: last day of train.
        valid_end: last day of valid.
        holdout: whether what comes after is sealed.
        rules: how the instruments trade.
        append: the bars follow those of the current version.
        accept: rules of quality whose errors are accepted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: Dataset
    membership: Dataset | None = None
    sectors: Dataset | None = None
    tickers: Dataset | None = None
    delistings: Dataset | None = None
    benchmark: Dataset | None = None
    layout: Annotated[str, StringConstraints(pattern=f"^({'|'.join(NAMES)})$")] = AUTO
    train_end: date | None = None
    valid_end: date | None = None
    holdout: bool = True
    rules: Annotated[str, StringConstraints(pattern=f"^({'|'.join(RULE_SETS)})$")] = NO_RULES
    append: bool = False
    accept: tuple[Annotated[str, StringConstraints(pattern=f"^({'|'.join(rule.name for rule in RULES)})$")], ...] = ()


class Import(BaseModel):
    """An import as it stands; times are UTC.

    Attributes:
        id: a UUIDv7, so that ids sort by creation.
        market: its name.
        user: who asked.
        status: ``done`` once the version is the market's current one.
        request: what was asked.
        created_at: when.
        finished_at: when it ended, ``None`` while it runs.
        told: what was said of the source, a line each.
        rows_done: rows of the bars that were read so far; ``None`` while that is not known.
        rows_total: of how many; ``None`` where that is not known.
        snapshot: id of the version that it has made current, ``None`` until then.
        error: why it failed.
        report: what it has come to, ``None`` unless it is done.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    market: str
    user: str
    status: ImportStatus
    request: ImportRequest
    created_at: AwareDatetime
    finished_at: AwareDatetime | None
    told: tuple[str, ...]
    rows_done: int | None
    rows_total: int | None
    snapshot: str | None
    error: str | None
    report: ImportReport | None


class Imports:
    """The imports in the records; thread-safe, each method one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(
        self,
        import_id: str,
        market: str,
        request: ImportRequest,
        *,
        by: Principal,
        executor: str,
        once: Once | None = None,
    ) -> Import:
        """An import of that id that an executor is to work on now; the one of then where the same was asked before.

        Raises:
            RunStateError: another one of the market is running.
            IdempotencyError: its key came with another request.
        """
        values = {
            "id": import_id,
            "market": market,
            "user": by.user,
            "request": request,
            "status": "running",
            "executor": executor,
            "created_at": datetime.now(UTC),
            "told": (),
            "report": None,
        }
        with writing(self._engine, f"imports of {market}") as connection:
            known = idempotency.earlier(connection, by, once)
            if known is None:
                under_way = select(imports.c.id).where(imports.c.market == market, _RUNNING)
                other = connection.scalar(under_way)
                if other is not None:
                    raise RunStateError(f"import {other} of market {market!r} is running: one is worked on at a time")
                connection.execute(insert(imports).values(values))
                idempotency.remember(connection, by, once, import_id)
            asked = imports.c.id == (known or import_id)
            return _import(connection.execute(select(imports).where(asked)).one())

    def get(self, market: str, import_id: str) -> Import:
        """An import of a market.

        Raises:
            NotFoundError: the market has had none of that id.
        """
        query = select(imports).where(imports.c.id == import_id, imports.c.market == market)
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFoundError(f"market {market!r} has no import {import_id!r}")
        return _import(row)

    def tell(self, import_id: str, line: str) -> None:
        """Keep a line that was said of the source; of very many the first are kept."""
        with writing(self._engine, import_id) as connection:
            told = connection.scalar(select(imports.c.told).where(imports.c.id == import_id)) or []
            if len(told) < MOST_TOLD:
                changed = update(imports).where(imports.c.id == import_id)
                connection.execute(changed.values(told=[*told, line]))

    def count(self, import_id: str, rows_done: int, rows_total: int | None) -> None:
        """Keep how far it is."""
        with writing(self._engine) as connection:
            changed = update(imports).where(imports.c.id == import_id)
            connection.execute(changed.values(rows_done=rows_done, rows_total=rows_total))

    def finish(self, import_id: str, report: ImportReport, by: Principal) -> None:
        """It is done, for whom it was asked by."""
        with writing(self._engine) as connection:
            connection.execute(_ended(imports.c.id == import_id, "done", report=report, error=None))
            audit.append(connection, by, "market.imported", report.snapshot)

    def fail(self, import_id: str, error: str) -> None:
        """It has failed."""
        with writing(self._engine) as connection:
            connection.execute(_ended(imports.c.id == import_id, "failed", error=error))

    def interrupt(self, dead: Collection[str]) -> None:
        """What executors that have died were working on has failed."""
        with writing(self._engine) as connection:
            connection.execute(_ended(imports.c.executor.in_(dead) & _RUNNING, "failed", error=INTERRUPTED))

    def owners(self) -> set[str]:
        """The executors of running imports."""
        with reading(self._engine) as connection:
            return set(connection.scalars(select(imports.c.executor).where(_RUNNING).distinct()))


_RUNNING: Final = imports.c.status == "running"


def _ended(which: ColumnElement[bool], status: ImportStatus, **values: object) -> Update:
    return update(imports).where(which).values(status=status, finished_at=datetime.now(UTC), **values)


def _import(row: Row[Any]) -> Import:
    values = {name: value for name, value in row._asdict().items() if name != "executor"}
    report = values["report"]
    return Import.model_validate(values | {"snapshot": report and report["snapshot"]})

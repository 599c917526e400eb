"""A snapshot: one immutable version of a market, as it is read."""

import glob
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from factors.columns import PRICES
from factors.errors import DataError, NotFoundError
from factors.frame import Frame, to_frame
from factors.panel import Cells
from storage.trading_rules import rule_set

PART = 1 << 20  # bars that are read at a time
INSAMPLE = "insample"  # the folder of the bars in sample, and the name of the database beside it
ALL = "all"  # the universe that every instrument belongs to on every date
LIMITS: dict[str, str | bool | int | float | list[str]] = {"threads": 2, "memory_limit": "2GB"}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One immutable version of a market, without its hold-out.

    Attributes:
        market: the market's name.
        id: hash of the content, 16 hexadecimal digits: equal ids hold equal data and settings.
        path: the version's folder.
        train_end: the last day of train, inclusive.
        valid_end: the last day of valid, inclusive; the hold-out is what comes after.
        first_date: date of the first bar.
        last_date: date of the last in-sample bar.
        has_holdout: whether bars after ``valid_end`` are kept, sealed, in a file of their own.
        fields: the numeric columns, lower-case, without ``adj_factor`` and ``suspended``.
        universes: indices in order of first appearance in the membership, then ``all``.
        synthetic: True when the bars are made up.
        trading_rules: how its instruments trade, a name of :data:`storage.trading_rules.RULE_SETS`.
        accepted: rules of :mod:`storage.quality` whose errors it has, which whoever imported it took.
        bars_per_year: what figures of a bar are multiplied by to be told per year: by the calendar of its exchange
            where that is known, else by its own.
        instruments: number of symbols with an in-sample bar.
        rows: number of in-sample bars.
    """

    market: str
    id: str
    path: Path
    train_end: date
    valid_end: date
    first_date: date
    last_date: date
    has_holdout: bool
    fields: tuple[str, ...]
    universes: tuple[str, ...]
    synthetic: bool
    trading_rules: str
    accepted: tuple[str, ...]
    bars_per_year: float
    instruments: int
    rows: int

    @property
    def columns(self) -> tuple[str, ...]:
        """What formulas can read: the fields, ``return``, and ``sector`` where any instrument with bars has one."""
        with _connect(self.path) as con:
            [[sectors]] = con.sql("SELECT count(*) FROM sectors SEMI JOIN instruments USING (symbol)").fetchall()
        return (*self.series, *(["sector"] if sectors else []))

    @property
    def series(self) -> tuple[str, ...]:
        """What formulas can read as a number."""
        return (*self.fields, "return")

    @property
    def limited(self) -> bool:
        """Whether its bars tell which of them stand at a price limit."""
        return bool(rule_set(self.trading_rules).bands)

    @property
    def settlement(self) -> int:
        """Days after which what was bought may be sold, see :class:`storage.trading_rules.RuleSet`."""
        return rule_set(self.trading_rules).settlement

    def delistings(self) -> dict[str, float]:
        """What holders got after the last bar in sample, a fraction, by symbol, where it is known."""
        with _connect(self.path) as con:
            return dict(con.execute('SELECT symbol, "return" FROM delistings').fetchall())

    def benchmark(self) -> Frame:
        """Closes of indices in sample: ``name``, ``date``, ``close``, sorted; no row where none was given."""
        with _connect(self.path) as con:
            return to_frame(con.sql("SELECT name, date, close FROM benchmark ORDER BY ALL"))

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Its in-sample tables, to be read: ``bars`` as they were traded, the reference data, and ``instruments``."""
        return connect_version(self.path)

    def bars(self, universe: str) -> Frame:
        """The in-sample bars, one row each, sorted by date and symbol.

        Columns: ``date``; ``symbol``; every field as float64, null where missing; ``suspended``, also
        where it stands at a price limit; ``member``,
        whether the symbol belongs to the universe on that date; ``sector``, null where unknown. Prices are
        multiplied, and volume is divided, by ``adj_factor`` over the symbol's first ``adj_factor``; other
        fields are as imported.

        Raises:
            NotFoundError: the market has no such universe.
        """
        with self.connect() as con:
            return to_frame(con.sql(bars_query(self), params=[self.universe(universe), ALL]))

    @contextmanager
    def cells(self, universe: str) -> Iterator[Cells]:
        """The same, in no order, with each bar's place in a panel; its tables are read before the ``with`` block ends.

        Raises:
            NotFoundError: the market has no such universe.
        """
        universe = self.universe(universe)
        with _connect(self.path) as con:
            con.execute(_PLACES)
            lanes = to_frame(con.sql("SELECT symbol, delisting FROM lanes ORDER BY lane"))
            yield Cells(
                fields=self.fields,
                tables=(to_frame(part) for part in self._parts(con)),
                members=to_frame(con.sql(_EVERYBODY if universe == ALL else _MEMBERS, params=[universe])),
                dates=to_frame(con.sql("SELECT date FROM places ORDER BY row"))["date"],
                symbols=lanes["symbol"],
                settlement=self.settlement,
                delisting=lanes["delisting"],
            )

    def _parts(self, con: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyRelation]:
        """The bars by files, some at a time, so that few are in memory a second time."""
        group: list[Path] = []
        rows = 0
        for name, more in con.execute("SELECT part, sum(rows) FROM days GROUP BY part ORDER BY part").fetchall():
            group.append(self.path / INSAMPLE / f"{name}.parquet")
            rows += more
            if rows >= PART:
                yield con.sql(_cells_query(self, group))
                group, rows = [], 0
        if group:
            yield con.sql(_cells_query(self, group))

    def universe(self, name: str | None) -> str:
        """The universe of that name, the market's first where none is named.

        Raises:
            NotFoundError: the market has no such universe.
        """
        if name is None:
            return self.universes[0]
        if name not in self.universes:
            known = ", ".join(self.universes)
            raise NotFoundError(f"market {self.market!r} has no universe {name!r}; it has {known}")
        return name


def read_snapshot(folder: Path, version: str) -> Snapshot:
    """Describe the version of that id in a market's folder.

    Raises:
        DataError: its file is damaged.
    """
    path = folder / version
    try:
        with _connect(path) as con:
            cursor = con.execute("FROM meta")
            names = [name for name, *_ in cursor.description or ()]
            [found] = cursor.fetchall()
    except duckdb.Error as error:
        raise DataError(
            f"market {folder.name!r} is damaged: {path} cannot be read; remove it and import again"
        ) from error
    cells = zip(names, found, strict=True)
    known: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in cells}
    return Snapshot(market=folder.name, id=version, path=path, **known)


def connect_version(path: Path, spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    """The in-sample tables of a version's folder, to be read; what memory does not hold goes to ``spill``."""
    con = _connect(path, spill)
    con.execute(f"CREATE TEMP VIEW bars AS {bars_of(path, INSAMPLE)}")
    return con


def bars_of(version: Path, side: str) -> str:
    """SQL of the bars of a version on one side of the end of valid, as they were traded."""
    return reading(sorted((version / side).glob("*.parquet")))


def reading(paths: Sequence[Path]) -> str:
    """SQL of the bars in these files."""
    return f"FROM read_parquet([{', '.join(literal(glob.escape(str(path))) for path in paths)}])"


def literal(text: object) -> str:
    """A text as SQL takes it, whatever it holds."""
    return "'" + str(text).replace("'", "''") + "'"


def quoted(column: str) -> str:
    """A column name as SQL takes it, whatever it holds."""
    return '"' + column.replace('"', '""') + '"'


def _connect(version: Path, spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    # DuckDB spills next to the file unless told otherwise, and a version's folder is never written to. The
    # settings are the same in all threads, which DuckDB requires of a file open twice in one process.
    spill = spill or Path(tempfile.gettempdir()) / f"alphaagent-{os.getpid()}.tmp"
    # What is read is either sorted by the query or of no order.
    config = {**LIMITS, "temp_directory": str(spill), "preserve_insertion_order": False}
    return duckdb.connect(version / "insample.duckdb", read_only=True, config=config)


_PLACES = """
    CREATE TEMP TABLE places AS SELECT date, (row_number() OVER (ORDER BY date) - 1)::INTEGER AS row FROM calendar;
    CREATE TEMP TABLE lanes AS
        SELECT symbol, (row_number() OVER (ORDER BY symbol) - 1)::INTEGER AS lane, adj_factor,
            coalesce("return", 'nan'::DOUBLE) AS delisting
        FROM instruments LEFT JOIN delistings USING (symbol);
    CREATE TEMP TABLE labels AS
        SELECT *, (dense_rank() OVER (ORDER BY sector) - 1)::SMALLINT AS code
        FROM sectors SEMI JOIN instruments USING (symbol)
"""
_EVERYBODY = "SELECT lane, 0 AS start, (SELECT count(*)::INTEGER FROM places) AS stop FROM lanes WHERE $1 = $1"
_MEMBERS = """
    SELECT lane, (SELECT count(*)::INTEGER FROM places WHERE date < membership.start) AS start,
        (SELECT count(*)::INTEGER FROM places WHERE "end" IS NULL OR date < "end") AS stop
    FROM membership JOIN lanes USING (symbol) WHERE universe = $1
"""


def insert_rows(con: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Sequence[object]]) -> None:
    """Insert rows, some thousand times as fast as one by one; the columns must be the table's."""
    if rows:
        kinds = [str(kind) for kind in con.table(table).types]
        columns = ", ".join(f"unnest(?::{kind}[])" for kind in kinds)
        con.execute(f"INSERT INTO {table} SELECT {columns}", [list(column) for column in zip(*rows, strict=True)])


def _held(name: str) -> str:
    """Whether a row with a start and an end is true of a bar, in SQL."""
    return (
        f"{name}.symbol = bars.symbol AND ({name}.start IS NULL OR {name}.start <= bars.date) "
        f'AND ({name}."end" IS NULL OR bars.date < {name}."end")'
    )


def bars_query(snapshot: Snapshot) -> str:
    """What :meth:`Snapshot.bars` reads from a version's tables, given a universe and ``ALL``."""
    columns = ", ".join(f"{_adjusted(field, 'instruments')} AS {quoted(field)}" for field in snapshot.fields)
    return f"""
        SELECT bars.date, bars.symbol, {columns}, {_closed(snapshot)} AS suspended,
            $1 = $2 OR EXISTS (FROM membership WHERE membership.universe = $1 AND {_held("membership")}) AS member,
            sectors.sector
        FROM bars JOIN instruments USING (symbol) LEFT JOIN sectors ON {_held("sectors")}
        ORDER BY bars.date, bars.symbol
    """  # noqa: S608 - only quoted column names are spliced in


def _cells_query(snapshot: Snapshot, paths: Sequence[Path]) -> str:
    adjusted = {field: _adjusted(field, "lanes") for field in snapshot.fields}
    listed = [f"coalesce({sql}, 'nan'::DOUBLE) AS {quoted(field)}" for field, sql in adjusted.items()]
    columns = ", ".join([f"{_closed(snapshot)}::UTINYINT AS suspended", *listed])
    return f"""
        SELECT row, lane, coalesce(code, -1)::SMALLINT AS sector, {columns}
        FROM ({reading(paths)}) AS bars JOIN places USING (date) JOIN lanes USING (symbol)
            LEFT JOIN labels ON {_held("labels")}
    """  # noqa: S608 - only quoted column names and paths are spliced in


def _closed(snapshot: Snapshot) -> str:
    """Whether a bar cannot be traded."""
    return "(bars.suspended OR bars.limited)" if snapshot.limited else "bars.suspended"


def _adjusted(field: str, origin: str) -> str:
    """A field whose prices are comparable over time, by the factor since the instrument's first bar."""
    column = f"bars.{quoted(field)}"
    if field in PRICES:
        return f"{column} * bars.adj_factor / {origin}.adj_factor"
    if field == "volume":
        return f"{column} * {origin}.adj_factor / bars.adj_factor"
    return column

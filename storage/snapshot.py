"""A snapshot: one immutable version of a market, as it is read."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb

from factors.columns import PRICES
from factors.errors import DataError, NotFoundError
from factors.frame import Frame, to_frame
from factors.panel import Cells

PART = 1 << 20  # bars that are read at a time
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
    instruments: int
    rows: int

    @property
    def columns(self) -> tuple[str, ...]:
        """What formulas can read: the fields, ``return``, and ``sector`` where any instrument has one."""
        with _connect(self.path) as con:
            [[sectors]] = con.sql("SELECT count(sector) FROM sectors").fetchall()
        return (*self.series, *(["sector"] if sectors else []))

    @property
    def series(self) -> tuple[str, ...]:
        """What formulas can read as a number."""
        return (*self.fields, "return")

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Its in-sample tables ``bars``, ``membership``, ``sectors`` and ``meta``, to be read."""
        return _connect(self.path)

    def bars(self, universe: str) -> Frame:
        """The in-sample bars, one row each, sorted by date and symbol.

        Columns: ``date``; ``symbol``; every field as float64, null where missing; ``suspended``; ``member``,
        whether the symbol belongs to the universe on that date; ``sector``, null where unknown. Prices are
        multiplied, and volume is divided, by ``adj_factor`` over the symbol's first ``adj_factor``; other
        fields are as imported.

        Raises:
            NotFoundError: the market has no such universe.
        """
        with _connect(self.path) as con:
            return to_frame(con.sql(bars_query(self.fields), params=[self.universe(universe), ALL]))

    @contextmanager
    def cells(self, universe: str) -> Iterator[Cells]:
        """The same, in no order, with each bar's place in a panel; its tables are read before the ``with`` block ends.

        Raises:
            NotFoundError: the market has no such universe.
        """
        universe = self.universe(universe)
        with _connect(self.path) as con:
            con.execute(_PLACES)
            dates = to_frame(con.sql("SELECT date FROM calendar ORDER BY row"))["date"]
            yield Cells(
                fields=self.fields,
                tables=(to_frame(part) for part in self._parts(con, dates.to_list())),
                members=to_frame(con.sql(_EVERYBODY if universe == ALL else _MEMBERS, params=[universe])),
                dates=dates,
                symbols=to_frame(con.sql("SELECT symbol FROM instruments ORDER BY lane"))["symbol"],
            )

    def _parts(self, con: duckdb.DuckDBPyConnection, dates: list[date]) -> Iterator[duckdb.DuckDBPyRelation]:
        """The bars by ranges of dates, as they are stored, so that few are in memory a second time."""
        query, length = _cells_query(self.fields), max(1, len(dates) * PART // max(self.rows, 1))
        for first in range(0, len(dates), length):
            days = dates[first : first + length]
            yield con.sql(query, params=[days[0], days[-1]])

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
            [found] = con.execute(
                "SELECT train_end, valid_end, first_date, last_date, has_holdout, fields, universes, synthetic, "
                "instruments, rows FROM meta"
            ).fetchall()
    except duckdb.Error as error:
        raise DataError(
            f"market {folder.name!r} is damaged: {path} cannot be read; remove it and import again"
        ) from error
    (
        train_end,
        valid_end,
        first_date,
        last_date,
        has_holdout,
        fields,
        universes,
        synthetic,
        instruments,
        rows,
    ) = found
    return Snapshot(
        market=folder.name,
        id=version,
        path=path,
        train_end=train_end,
        valid_end=valid_end,
        first_date=first_date,
        last_date=last_date,
        has_holdout=has_holdout,
        fields=tuple(fields),
        universes=tuple(universes),
        synthetic=synthetic,
        instruments=instruments,
        rows=rows,
    )


def quoted(column: str) -> str:
    """A column name as SQL takes it, whatever it holds."""
    return '"' + column.replace('"', '""') + '"'


def _connect(version: Path) -> duckdb.DuckDBPyConnection:
    # DuckDB spills next to the file unless told otherwise, and a version's folder is never written to. The
    # settings are the same in all threads, which DuckDB requires of a file open twice in one process.
    spill = str(Path(tempfile.gettempdir()) / f"alphaagent-{os.getpid()}.tmp")
    # What is read is either sorted by the query or of no order.
    config = {**LIMITS, "temp_directory": spill, "preserve_insertion_order": False}
    return duckdb.connect(version / "insample.duckdb", read_only=True, config=config)


_PLACES = """
    CREATE TEMP TABLE calendar AS
        SELECT date, (row_number() OVER (ORDER BY date) - 1)::INTEGER AS row FROM (SELECT DISTINCT date FROM bars);
    CREATE TEMP TABLE instruments AS
        WITH origin AS (SELECT symbol, arg_min(adj_factor, date) AS adj_factor FROM bars GROUP BY symbol),
        codes AS (
            SELECT sector, row_number() OVER (ORDER BY sector) - 1 AS code
            FROM (SELECT DISTINCT sector FROM sectors WHERE sector IS NOT NULL)
        )
        SELECT symbol, (row_number() OVER (ORDER BY symbol) - 1)::INTEGER AS lane, adj_factor,
            coalesce(code, -1)::SMALLINT AS sector
        FROM origin LEFT JOIN sectors USING (symbol) LEFT JOIN codes USING (sector)
"""
_EVERYBODY = "SELECT lane, 0 AS start, (SELECT count(*)::INTEGER FROM calendar) AS stop FROM instruments WHERE $1 = $1"
_MEMBERS = """
    SELECT lane, (SELECT count(*)::INTEGER FROM calendar WHERE date < membership.start) AS start,
        (SELECT count(*)::INTEGER FROM calendar WHERE "end" IS NULL OR date < "end") AS stop
    FROM membership JOIN instruments USING (symbol) WHERE universe = $1
"""


def bars_query(fields: tuple[str, ...]) -> str:
    """What :meth:`Snapshot.bars` reads from tables of bars, membership and sectors, given a universe and ``ALL``."""
    columns = ", ".join(f"{_adjusted(field)} AS {quoted(field)}" for field in fields)
    return f"""
        WITH instruments AS (SELECT symbol, arg_min(adj_factor, date) AS adj_factor FROM bars GROUP BY symbol)
        SELECT bars.date, bars.symbol, {columns}, bars.suspended,
            $1 = $2 OR EXISTS (
                FROM membership WHERE membership.universe = $1 AND membership.symbol = bars.symbol
                AND (membership.start IS NULL OR membership.start <= bars.date)
                AND (membership."end" IS NULL OR bars.date < membership."end")
            ) AS member,
            sectors.sector
        FROM bars JOIN instruments USING (symbol) LEFT JOIN sectors USING (symbol)
        ORDER BY bars.date, bars.symbol
    """  # noqa: S608 - only quoted column names are spliced in


def _cells_query(fields: tuple[str, ...]) -> str:
    columns = ", ".join(f"coalesce({_adjusted(field)}, 'nan'::DOUBLE) AS {quoted(field)}" for field in fields)
    return f"""
        SELECT row, lane, sector, suspended::UTINYINT AS suspended, {columns}
        FROM bars JOIN calendar USING (date) JOIN instruments USING (symbol) WHERE bars.date BETWEEN $1 AND $2
    """  # noqa: S608 - only quoted column names are spliced in


def _adjusted(field: str) -> str:
    """A field whose prices are comparable over time, by the factor since the instrument's first bar."""
    column = f"bars.{quoted(field)}"
    if field in PRICES:
        return f"{column} * bars.adj_factor / instruments.adj_factor"
    if field == "volume":
        return f"{column} * instruments.adj_factor / bars.adj_factor"
    return column

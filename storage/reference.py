"""Reference data: what is known of a market's instruments beside their bars, each with the days on which it is so.

Every table is staged whole, and laid down in two parts. That in sample tells nothing dated after the end of valid.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import duckdb

from factors.errors import DataError, SettingError
from storage.snapshot import ALL, insert_rows, quoted
from storage.staging import refuse, typed

MEMBERS: Final = "members"  # the universe of a membership that names no index
BENCHMARK: Final = "benchmark"  # the series of a file that names none

_Span = tuple[str, date | None, date | None]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of reference data.

    Attributes:
        says: what it tells, in words.
        columns: the SQL type of each column.
        optional: columns that a source may lack, by the SQL of what then stands there.
        told: SQL of the rows that are told in sample, given the last day of valid as ``$cut``.
        kept: SQL of the rows that are kept beside the hold-out.
    """

    says: str
    columns: Mapping[str, str]
    optional: Mapping[str, str]
    told: str
    kept: str


EVER: Final = date(9999, 12, 31)  #: the last day of valid as a cut, where nothing is held out

# An instrument without a bar yet is told of where no hold-out could be meant by it, as bars may follow.
_TRADED: Final = f"($cut = DATE '{EVER}' OR symbol IN (SELECT symbol FROM instruments WHERE first_date <= $cut))"  # noqa: S608


def _spans(table: str, told: str = "true") -> tuple[str, str]:
    """Rows with a start and an end, either open where null; what ends after the cut has no end in sample."""
    cut = f'SELECT * REPLACE (CASE WHEN "end" <= $cut THEN "end" END AS "end") FROM {table}'  # noqa: S608
    return (
        f"{cut} WHERE (start IS NULL OR start <= $cut) AND {told}",
        f'FROM {table} WHERE "end" IS NULL OR "end" > $cut OR NOT {told}',
    )


TABLES: Final[Mapping[str, Table]] = {
    "membership": Table(
        "who belongs to which index: symbol, start, end[, index]",
        {"universe": "VARCHAR", "symbol": "VARCHAR", "start": "DATE", "end": "DATE"},
        {"universe": f"'{MEMBERS}'"},
        *_spans("membership"),
    ),
    "sectors": Table(
        "who belongs to which sector: symbol, sector[, start, end]",
        {"symbol": "VARCHAR", "sector": "VARCHAR", "start": "DATE", "end": "DATE"},
        {"start": "NULL", "end": "NULL"},
        *_spans("sectors", _TRADED),
    ),
    "delistings": Table(
        "what holders got after the last bar: symbol, date, return",
        {"symbol": "VARCHAR", "date": "DATE", "return": "DOUBLE"},
        {},
        f"FROM delistings WHERE date <= $cut AND {_TRADED}",
        f"FROM delistings WHERE date > $cut OR NOT {_TRADED}",
    ),
    "benchmark": Table(
        "closes of indices: date, close[, index]",
        {"name": "VARCHAR", "date": "DATE", "close": "DOUBLE"},
        {"name": f"'{BENCHMARK}'"},
        "FROM benchmark WHERE date <= $cut",
        "FROM benchmark WHERE date > $cut",
    ),
}
TICKERS: Final = "tickers"  #: symbol, instrument[, start, end]: which instrument a symbol stood for; applied, not kept


REFERENCE: Final = (*TABLES, TICKERS)  #: names of files beside the bars
_TICKERS: Final = {"symbol": "VARCHAR", "instrument": "VARCHAR", "start": "DATE", "end": "DATE"}
_FILED: Final = {"universe": "index", "name": "index"}  # columns that files call otherwise

SIDES: Final = ("insample", "holdout")  #: of the end of valid, as files and folders of a version are named


def whole(table: str) -> str:
    """SQL of a table from both sides, attached under their names."""
    if "end" not in TABLES[table].columns:
        return " UNION ALL ".join(f"FROM {side}.{table}" for side in SIDES)
    # What goes on after the end of valid has lost its end in sample; the hold-out has it whole.
    return f'FROM insample.{table} WHERE "end" IS NOT NULL UNION ALL BY NAME FROM holdout.{table}'


def columns_of(table: str) -> tuple[dict[str, str], set[str]]:
    """SQL types of the columns of a file of that table, and those that it may lack.

    Raises:
        SettingError: there is no such table.
    """
    if table == TICKERS:
        return _TICKERS, {"start", "end"}
    if table not in TABLES:
        raise SettingError(f"no reference data {table!r}; expected {', '.join((*TABLES, TICKERS))}")
    known = TABLES[table]
    columns = {_FILED.get(column, column): kind for column, kind in known.columns.items()}
    return columns, {_FILED.get(column, column) for column in known.optional}


def stage_tickers(con: duckdb.DuckDBPyConnection, view: str | None) -> None:
    """Load the table ``tickers``, which may be empty.

    Raises:
        DataError: a symbol stands for two instruments on one day, or a row ends before it starts.
    """
    _load(con, TICKERS, view, _TICKERS, {"start": "NULL", "end": "NULL"})
    _refuse_backward(con, TICKERS)
    refuse(con, "{count} symbols stand for two instruments on one day, the first is {symbol}", _overlapping(TICKERS))


def stage_reference(con: duckdb.DuckDBPyConnection, views: Mapping[str, str], kept: Mapping[str, str]) -> None:
    """Load every table from the view of its name, or from what is ``kept`` of an earlier version.

    Symbols become the instruments that they stood for, by the table ``tickers``.
    """
    for name, table in TABLES.items():
        _load(con, name, views.get(name, kept.get(name)), table.columns, table.optional)
        if name in views and "symbol" in table.columns:
            _rename(con, name, list(table.columns))
    con.execute("DELETE FROM sectors WHERE sector IS NULL")
    # The same row twice is no contradiction.
    con.execute("CREATE OR REPLACE TABLE sectors AS SELECT DISTINCT * FROM sectors")


def universes_of(con: duckdb.DuckDBPyConnection) -> tuple[str, ...]:
    """The indices of the membership in order of first appearance, then ``all``.

    Raises:
        DataError: an index is called ``all``.
    """
    universes = con.execute("SELECT universe FROM membership GROUP BY universe ORDER BY min(rowid)").fetchall()
    names = tuple(name for (name,) in universes)
    if ALL in names:
        raise DataError(f"the membership has an index named {ALL!r}, which is the name of the whole market; rename it")
    return (*names, ALL)


_KNOWN_MEMBERS: Final = "FROM membership SEMI JOIN instruments USING (symbol) LIMIT 1"


def check_reference(con: duckdb.DuckDBPyConnection, bars: str = "bars") -> None:
    """Refuse reference data that cannot be, beside the table ``instruments`` and these bars, in SQL.

    Raises:
        DataError: they cannot.
    """
    for name in ("membership", "sectors", "delistings"):
        refuse(con, f"{{count}} rows of the {name} have no symbol", f"SELECT symbol FROM {name} WHERE symbol IS NULL")  # noqa: S608
    for name in ("membership", "sectors"):
        _refuse_backward(con, name)
    if con.execute("FROM membership LIMIT 1").fetchall() and not con.execute(_KNOWN_MEMBERS).fetchall():
        raise DataError("no symbol of the membership has a bar; expected symbols spelled as in the bars")
    refuse(con, "{count} symbols have more than one sector on one day, the first is {symbol}", _overlapping("sectors"))
    refuse(
        con,
        "{count} delisted symbols have a bar after it, or two delistings, the first is {symbol}",
        f"""
        SELECT symbol FROM delistings GROUP BY symbol HAVING count(*) > 1
        UNION SELECT symbol FROM delistings AS own SEMI JOIN {bars} AS bars
            ON bars.symbol = own.symbol AND CAST(bars.date AS DATE) > own.date
        """,  # noqa: S608 - SQL of ours
    )
    refuse(
        con,
        "{count} delistings have no date or no return of at least -1, the first is of {symbol}",
        """
        SELECT symbol FROM delistings
        WHERE date IS NULL OR NOT coalesce("return" >= -1 AND isfinite("return"), false)
        """,
    )
    refuse(
        con,
        "{count} days of a benchmark have no close, or two, the first is {date} of {name}",
        """
        SELECT date, name FROM benchmark GROUP BY ALL
        HAVING count(*) > 1 OR date IS NULL OR NOT coalesce(min(close) > 0 AND isfinite(min(close)), false)
        """,
    )


def _load(
    con: duckdb.DuckDBPyConnection, name: str, view: str | None, columns: Mapping[str, str], optional: Mapping[str, str]
) -> None:
    listed = ", ".join(f"{quoted(column)} {kind}" for column, kind in columns.items())
    con.execute(f"CREATE TABLE {name} ({listed})")
    if view is None:
        return
    there = typed(con, view)
    cells = []
    for column, kind in columns.items():
        source = _FILED.get(column, column)
        absent = optional.get(column, "NULL")
        # A stream may leave a column of nothing but nulls without a type, and such columns cannot be read.
        known = source in there and there[source] != '"NULL"'
        cells.append(f"coalesce(CAST({quoted(source)} AS {kind}), {absent})" if known else absent)
    con.execute(f"INSERT INTO {name} SELECT {', '.join(cells)} FROM {view}")  # noqa: S608 - our names, quoted columns


def _rename(con: duckdb.DuckDBPyConnection, name: str, columns: list[str]) -> None:
    tickers: dict[str, list[_Span]] = {}
    for symbol, instrument, start, end in con.execute(
        'SELECT symbol, instrument, start, "end" FROM tickers'
    ).fetchall():
        tickers.setdefault(symbol, []).append((instrument, start, end))
    if not tickers:
        return
    rows = con.execute(f"FROM {name} ORDER BY rowid").fetchall()
    con.execute(f"DELETE FROM {name}")  # noqa: S608
    renamed: list[list[object]] = []
    for row in rows:
        cells: dict[str, Any] = dict(zip(columns, row, strict=True))
        if "date" in cells and cells["date"] in {None, date.min}:
            renamed.append([*row])
            continue
        # Whoever is delisted had its symbol the day before.
        days = cells if "end" in cells else {"start": cells["date"] - timedelta(days=1), "end": cells["date"]}
        span: _Span = (cells["symbol"], days["start"], days["end"])
        for symbol, start, end in pieces(span, tickers.get(cells["symbol"], [])):
            cells |= {"symbol": symbol} | ({"start": start, "end": end} if "end" in cells else {})
            renamed.append([*cells.values()])
    insert_rows(con, name, renamed)


def pieces(span: _Span, tickers: list[_Span]) -> Iterator[_Span]:
    """A symbol's days cut by the instruments that it stood for; on other days it stands for itself.

    Args:
        span: a symbol, its first day, and the day behind its last; open where ``None``.
        tickers: the same of instruments, apart from each other.
    """
    symbol, start, end = span
    first, last = start or date.min, end or date.max
    place = first
    for instrument, *bounds in sorted(tickers, key=lambda one: one[1] or date.min):
        begins, ends = max(first, bounds[0] or date.min), min(last, bounds[1] or date.max)
        if begins >= ends:
            continue
        if place < begins:
            yield symbol, start if place == first else place, begins
        yield instrument, start if begins == first else begins, end if ends == last else ends
        place = ends
    if place < last:
        yield symbol, start if place == first else place, end


def _refuse_backward(con: duckdb.DuckDBPyConnection, table: str) -> None:
    refuse(
        con,
        f"{{count}} rows of the {table} end before they start, the first is of {{symbol}}",
        f'SELECT symbol FROM {table} WHERE "end" < start',  # noqa: S608 - our own names
    )


def _overlapping(table: str) -> str:
    return f"""
        SELECT DISTINCT one.symbol FROM {table} AS one JOIN {table} AS other
            ON one.symbol = other.symbol AND one.rowid < other.rowid
            AND coalesce(one.start, DATE '0001-01-01') < coalesce(other."end", DATE '9999-12-31')
            AND coalesce(other.start, DATE '0001-01-01') < coalesce(one."end", DATE '9999-12-31')
    """  # noqa: S608 - our own names

"""Layouts: how vendors lay bars out in a folder with a CSV file for each symbol, and how each is read as one table.

The layout is told from the columns that the files have. What comes of it is a view of text, one row per date and
symbol, with columns named as a market's are, and with the file that each row is of.
"""

import csv
import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import duckdb

from factors.errors import DataError
from factors.prose import first_few
from storage.snapshot import quoted
from storage.watch import READ, Progress

AUTO: Final = "auto"
LONG: Final = "long"  #: one file of all symbols
QLIB: Final = "qlib"
FILE: Final = "_file"  #: the column of a view that tells which file a row is of
LINE: Final = "_line"  #: and the line of that file, where a single one is read

_BARS: Final = frozenset({"open", "high", "low", "close", "volume"})
_AT_ONCE: Final = 1000  # files that are read by one statement
_ENCODING: Final = "utf-8-sig"


@dataclass(frozen=True, slots=True)
class Layout:
    """A way in which a CSV file for each symbol is laid out.

    Attributes:
        name: what it is called.
        says: what it is told from, in words.
        marks: the columns that tell it, in lower case; a folder is of the first layout whose marks a file has, and
            so must all be.
        columns: columns of a market by the SQL of their text.
        drops: columns of the files that are none of a market's.
        renamed: columns of a market by those of files that may have them.
        table: SQL of the table that ``columns`` are read from, ``rows`` being those of the files.
        bars: which of its rows hold a bar, in SQL.
        refused: rows of the table that must not be, in SQL, and why.
        noted: rows of the table that are worth a word, in SQL, and what is said of their number.
    """

    name: str
    says: str
    marks: frozenset[str]
    columns: dict[str, str] = field(default_factory=dict)
    drops: frozenset[str] = frozenset()
    renamed: dict[str, str] = field(default_factory=dict)
    table: str = "rows"
    bars: str = "true"
    refused: tuple[str, str] = ("false", "")
    noted: tuple[str, str] = ("false", "")


# On a day without rights the close before, as the exchange tells it, is that of the day before, or of the last day on
# which there was one. Where days are missing nothing is known. Rows may be there twice, and a symbol in several files.
_BAOSTOCK: Final = """(
    WITH days AS (
        SELECT DISTINCT code, date, TRY_CAST(date AS DATE) AS day,
            nullif(TRY_CAST(close AS DOUBLE), 0) AS last, nullif(TRY_CAST(preclose AS DOUBLE), 0) AS told
        FROM rows
    ),
    calendar AS (SELECT DISTINCT day, dense_rank() OVER (ORDER BY day) AS place FROM days WHERE day IS NOT NULL),
    steps AS (
        SELECT code, date, day, lag(last IGNORE NULLS) OVER symbol / told AS step, place - lag(place) OVER symbol > 1
            OR day - lag(day) OVER symbol > 20 OR (told IS NULL AND lag(day) OVER symbol IS NOT NULL) AS gap
        FROM days JOIN calendar USING (day) WINDOW symbol AS (PARTITION BY code ORDER BY day)
    )
    SELECT rows.*, gap, product(CASE WHEN gap THEN 1 ELSE coalesce(step, 1) END) OVER (PARTITION BY code ORDER BY day)
        AS factor
    FROM rows LEFT JOIN steps USING (code, date)
)"""
_MILLISECONDS: Final = "TRY(make_timestamp_ms(TRY_CAST(timestamp AS BIGINT)))"

LAYOUTS: Final = (
    Layout(
        "yahoo",
        "a first line of prices and a second of tickers, as yfinance writes them",
        frozenset({"price", *_BARS}),
        {"date": "price"},
        frozenset({"price"}),
        bars="price IS NULL OR price NOT IN ('Ticker', 'Date', 'Datetime')",
        noted=(
            f"price = 'Ticker' AND trim(close) <> parse_filename({FILE}, true)",
            "{} files are of another ticker than their name, which is taken for the symbol",
        ),
    ),
    Layout(
        "baostock",
        "columns code, tradestatus, preclose and adjustflag",
        frozenset({"date", "code", "tradestatus", "preclose", "adjustflag", *_BARS}),
        {
            "symbol": "code",
            # A column that has had gaps is written with decimals by many a tool.
            "suspended": "CASE TRY_CAST(tradestatus AS DOUBLE) WHEN 1 THEN '0' WHEN 0 THEN '1' "
            "ELSE 'tradestatus ' || tradestatus END",
            "adj_factor": "CASE TRY_CAST(adjustflag AS DOUBLE) WHEN 3 THEN CAST(factor AS VARCHAR) ELSE '1' END",
        },
        frozenset({"code", "tradestatus", "preclose", "adjustflag", "pctchg", "time"}),
        renamed={"isst": "st"},
        table=_BAOSTOCK,
        refused=(
            "coalesce(TRY_CAST(adjustflag AS DOUBLE) NOT IN (1, 3), true)",
            "adjustflag must be 3, prices as they were traded, or 1; those adjusted to the last day (2) change later",
        ),
        noted=(
            "gap",
            "{} rows follow days that are missing, or do not tell the close before: no adjustment is known for them",
        ),
    ),
    Layout(
        "bybit",
        "columns timestamp, in milliseconds, and turnover",
        frozenset({"timestamp", "turnover", *_BARS}),
        {
            # A stamp of a year without such a market is in another unit.
            "date": f"CASE WHEN year({_MILLISECONDS}) BETWEEN 2000 AND 9999 "
            f"THEN CAST({_MILLISECONDS} AS VARCHAR) ELSE timestamp END",
            "amount": "turnover",
        },
        frozenset({"timestamp", "turnover"}),
    ),
    Layout("folder", "a column date beside the prices", frozenset({"date", *_BARS})),
)


NAMES: Final = (AUTO, LONG, *(layout.name for layout in LAYOUTS), QLIB)


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of CSV files, one for each symbol.

    Attributes:
        path: where it is.
        layout: of its files.
        files: those with bars, by the columns that they have.
    """

    path: Path
    layout: Layout
    files: dict[tuple[str, ...], list[Path]]

    def load(self, con: duckdb.DuckDBPyConnection, name: str, progress: Progress) -> None:
        """Read all files, and make a view of what they hold.

        Some are read at a time: what DuckDB knows of the files of a statement is in memory, which no limit counts.
        """
        everything = sorted({column for columns in self.files for column in columns})
        listed = ", ".join(f"{quoted(column)} VARCHAR" for column in [*everything, FILE])
        con.execute(f"CREATE TABLE {name}_rows ({listed})")
        con.execute("SET preserve_insertion_order = false")  # which rows of two files would wait for each other to keep
        done, total = 0, sum(map(len, self.files.values()))
        for columns, paths in self.files.items():
            for first in range(0, len(paths), _AT_ONCE):
                some = paths[first : first + _AT_ONCE]
                read_csv(con, columns, some, FILE).create_view(f"{name}_some")
                con.execute(f"INSERT INTO {name}_rows BY NAME FROM {name}_some")
                con.execute(f"DROP VIEW {name}_some")
                done += len(some)
                progress(READ, done * 100 // total, 100)
        con.execute("RESET preserve_insertion_order")
        self._create_views(con, name)

    def load_one(self, con: duckdb.DuckDBPyConnection, name: str, path: Path) -> None:
        """The same of one file, with the line of each row."""
        columns = next(columns for columns, paths in self.files.items() if path in paths)
        rows = read_csv(con, columns, [path], FILE).project(f"*, row_number() OVER () + 1 AS {LINE}")
        rows.create_view(f"{name}_rows")
        self._create_views(con, name)

    def _create_views(self, con: duckdb.DuckDBPyConnection, name: str) -> None:
        rows = f"WITH rows AS (FROM {name}_rows)"
        con.execute(f"CREATE VIEW {name}_table AS {rows} SELECT * FROM {self.layout.table}")  # noqa: S608
        con.execute(f"CREATE VIEW {name} AS {self._select(f'{name}_table')}")

    def check(self, con: duckdb.DuckDBPyConnection, view: str, tell: Callable[[str], object]) -> None:
        """Tell of files without bars, given the view that was made.

        Raises:
            DataError: there are none at all, or rows that must not be.
        """
        (refused, why), (noted, words) = self.layout.refused, self.layout.noted
        counted = ", ".join(f"count(*) FILTER ({where})" for where in (self.layout.bars, refused, noted))
        rows = con.execute(f"SELECT {FILE}, {counted} FROM {view}_table GROUP BY {FILE} ORDER BY {FILE}").fetchall()  # noqa: S608
        there = {Path(name).name for name, bars, *_ in rows if bars}
        bare = sorted(path for paths in self.files.values() for path in paths if path.name not in there)
        if not there:
            raise DataError(f"{self.path}: no file holds a bar: {_named(bare)}")
        if bare:
            tell(f"without bars: {_named(bare)}")
        for name, _, wrong, _ in rows:
            if wrong:
                raise DataError(f"{Path(name).name}: {why}")
        count = sum(row[-1] for row in rows)
        if count:
            tell(words.format(count))

    def _select(self, table: str) -> str:
        there = sorted({column for columns in self.files for column in columns})
        kept = [name for name in there if name not in self.layout.drops and name not in self.layout.columns]
        columns = {self.layout.renamed.get(name, name): quoted(name) for name in kept} | self.layout.columns
        columns.setdefault("symbol", f"parse_filename({FILE}, true)")
        listed = ", ".join(f"{sql} AS {quoted(name)}" for name, sql in columns.items())
        return f"SELECT {listed}, COLUMNS('^({FILE}|{LINE})$') FROM {table} WHERE {self.layout.bars}"  # noqa: S608


def open_folder(path: Path, wanted: str | None, tell: Callable[[str], object]) -> Folder:
    """Find out how a folder's files are laid out, and say so.

    Args:
        path: the folder.
        wanted: the layout's name, where it is known.
        tell: takes what is worth saying, a line at a time.

    Raises:
        DataError: no file has bars, or one is laid out otherwise than the others, or as nothing that is known.
    """
    # Not resolved: a symbol is the name that a file has here, wherever a link leads.
    there = sorted(path.absolute().iterdir())
    files = [each for each in there if each.suffix.lower() == ".csv" and each.is_file() and each.name[0] not in "_."]
    aside = sorted({*there}.difference(files))
    if aside:
        tell(f"not read: {_named(aside)}")
    empty = [each for each in files if each.stat().st_size == 0]
    if empty:
        tell(f"empty: {_named(empty)}")
    alike: dict[tuple[str, ...], tuple[str, ...]] = {}  # kept once, as files may be very many
    named = ((each, header(each)) for each in files if each not in empty)
    headers = {each: alike.setdefault(columns, columns) for each, columns in named}
    if not headers:
        raise DataError(f"{path}: no CSV file with bars; expected one for each symbol")
    layout = _layout(headers, wanted)
    found: dict[tuple[str, ...], list[Path]] = {}
    for each, columns in headers.items():
        lacking = layout.marks.difference(columns)
        if lacking:
            raise DataError(
                f"{each.name}: no column {', '.join(map(repr, sorted(lacking)))}, which the layout {layout.name} has"
            )
        found.setdefault(columns, []).append(each)
    tell(f"layout {layout.name}, told from {layout.says}: {len(headers)} files")
    return Folder(path, layout, found)


def header(path: Path) -> tuple[str, ...]:
    """The names of a CSV file's columns, in lower case.

    Raises:
        DataError: the first line is no CSV in UTF-8, or names two columns alike.
    """
    try:
        with path.open("rb") as lines:  # the lines below may be in another encoding, which is told when they are read
            cells = next(csv.reader([lines.readline().decode(_ENCODING)]), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path.name}: the first line is not CSV in UTF-8") from error
    names = tuple(cell.strip().lower() or f"column {number}" for number, cell in enumerate(cells, start=1))
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{path.name}: more than one column is named {name!r}")
    return names


def read_csv(
    con: duckdb.DuckDBPyConnection, columns: Sequence[str], paths: Sequence[Path], filename: str | None = None
) -> duckdb.DuckDBPyRelation:
    """CSV files with these columns as text, and the file that each row is of in one of the name ``filename``."""
    return con.read_csv(
        [glob.escape(str(path.absolute())) for path in paths],  # type: ignore[arg-type] # one file, say the stubs
        header=True,
        auto_detect=False,
        columns=dict.fromkeys(columns, "VARCHAR"),
        delimiter=",",
        quotechar='"',
        escapechar='"',
        filename=filename,
    )


def _layout(headers: dict[Path, tuple[str, ...]], wanted: str | None) -> Layout:
    path, columns = next(iter(headers.items()))
    known = [layout for layout in LAYOUTS if wanted in {None, layout.name}]
    # One plain file must not have all of them read as plain, which would leave out what a vendor tells besides.
    kinds = [frozenset(each) for each in set(headers.values())]
    fitting = next((layout for layout in known if any(layout.marks <= kind for kind in kinds)), None)
    if fitting is not None:
        return fitting
    if wanted is not None:
        return known[0]
    raise DataError(
        f"{path.name}: laid out as nothing that is known, with columns {', '.join(columns)}; "
        "expected date, open, high, low, close and volume"
    )


def _named(paths: Sequence[Path]) -> str:
    return first_few([path.name for path in paths])

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
from storage.snapshot import quoted

AUTO: Final = "auto"
LONG: Final = "long"  #: one file of all symbols
QLIB: Final = "qlib"
FILE: Final = "_file"  #: the column of a view that tells which file a row is of
LINE: Final = "_line"  #: and the line of that file, where a single one is read

_BARS: Final = frozenset({"open", "high", "low", "close", "volume"})
_NAMED: Final = 5  # files that are named in a message, of however many
_ENCODING: Final = "utf-8-sig"


@dataclass(frozen=True, slots=True)
class Layout:
    """A way in which a CSV file for each symbol is laid out.

    Attributes:
        name: what it is called.
        says: what it is told from, in words.
        marks: the columns that tell it, in lower case; a folder is of the first layout whose marks are all there.
        columns: columns of a market by the SQL of their text.
        drops: columns of the files that are none of a market's.
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
    table: str = "rows"
    bars: str = "true"
    refused: tuple[str, str] = ("false", "")
    noted: tuple[str, str] = ("false", "")


# On a day without rights the close before, as the exchange tells it, is that of the day before. Where that day is
# missing nothing is known. Rows may be there twice, and a symbol in several files.
_BAOSTOCK: Final = """(
    WITH days AS (
        SELECT DISTINCT code, date, TRY_CAST(date AS DATE) AS day,
            TRY_CAST(close AS DOUBLE) AS last, TRY_CAST(preclose AS DOUBLE) AS told
        FROM rows
    ),
    calendar AS (SELECT DISTINCT day, dense_rank() OVER (ORDER BY day) AS place FROM days WHERE day IS NOT NULL),
    steps AS (
        SELECT code, date, day, lag(last) OVER symbol / nullif(told, 0) AS step, place - lag(place) OVER symbol > 1
            OR day - lag(day) OVER symbol > 20 AS gap
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
        bars="price IS NULL OR price NOT IN ('Ticker', 'Date')",
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
        table=_BAOSTOCK,
        refused=(
            "coalesce(TRY_CAST(adjustflag AS DOUBLE) NOT IN (1, 3), true)",
            "adjustflag must be 3, prices as they were traded, or 1; those adjusted to the last day (2) change later",
        ),
        noted=("gap", "{} rows follow days that are missing, over which no adjustment is known"),
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
    """A folder of CSV files, one for each symbol, as the view ``bars``.

    Attributes:
        path: where it is.
        layout: of its files.
        files: those with bars, by the columns that they have.
    """

    path: Path
    layout: Layout
    files: dict[tuple[str, ...], list[Path]]

    def create_view(self, con: duckdb.DuckDBPyConnection, name: str, only: Path | None = None) -> None:
        """Make the view; of one file alone with the line of each row."""
        chosen = {columns: [path for path in paths if only in {None, path}] for columns, paths in self.files.items()}
        parts = [_rows(con, columns, paths, numbered=only is not None) for columns, paths in chosen.items() if paths]
        for number, part in enumerate(parts):
            part.create_view(f"{name}_{number}")
        rows = " UNION ALL BY NAME ".join(f"FROM {name}_{number}" for number in range(len(parts)))
        con.execute(f"CREATE VIEW {name}_table AS WITH rows AS ({rows}) SELECT * FROM {self.layout.table}")  # noqa: S608
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
        columns = {name: quoted(name) for name in kept} | self.layout.columns
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
    files = sorted(each for each in path.iterdir() if each.suffix.lower() == ".csv" and each.is_file())
    aside = [each for each in files if each.name.startswith(("_", "."))]
    if aside:
        tell(f"not read: {_named(aside)}")
    files = [each for each in files if each not in aside]
    empty = [each for each in files if each.stat().st_size == 0]
    if empty:
        tell(f"empty: {_named(empty)}")
    headers = {each: header(each) for each in files if each not in empty}
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
        [glob.escape(str(path.resolve())) for path in paths],  # type: ignore[arg-type] # one file, say the stubs
        header=True,
        auto_detect=False,
        columns=dict.fromkeys(columns, "VARCHAR"),
        delimiter=",",
        quotechar='"',
        escapechar='"',
        filename=filename,
    )


def _rows(
    con: duckdb.DuckDBPyConnection, columns: Sequence[str], paths: Sequence[Path], *, numbered: bool
) -> duckdb.DuckDBPyRelation:
    rows = read_csv(con, columns, paths, FILE)
    return rows.project(f"*, row_number() OVER () + 1 AS {LINE}") if numbered else rows


def _layout(headers: dict[Path, tuple[str, ...]], wanted: str | None) -> Layout:
    path, columns = next(iter(headers.items()))
    known = [layout for layout in LAYOUTS if wanted in {None, layout.name}]
    fitting = next((layout for layout in known if layout.marks <= set(columns)), None)
    if fitting is not None:
        return fitting
    if wanted is not None:
        return known[0]
    raise DataError(
        f"{path.name}: laid out as nothing that is known, with columns {', '.join(columns)}; "
        "expected date, open, high, low, close and volume"
    )


def _named(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return ", ".join(path.name for path in paths[:_NAMED]) + more

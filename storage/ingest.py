"""Ingest: sources as vendors lay them out, checked cell by cell and published as a market."""

import glob
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final

import duckdb

from factors.errors import DataError, SettingError
from storage.draft import BARS, Terms
from storage.layouts import AUTO, FILE, LINE, LONG, NAMES, QLIB, Folder, header, open_folder, read_csv
from storage.markets import publish_views
from storage.qlib import is_tree, read_tree
from storage.reference import columns_of
from storage.snapshot import Snapshot, quoted
from storage.staging import FIELD, REQUIRED, RESERVED, TRUTH, numeric, typed
from storage.trading_rules import NO_RULES
from storage.watch import Progress, Tell, watched


def import_market(
    root: Path,
    name: str,
    source: Path,
    *,
    train_end: date | None = None,
    valid_end: date | None = None,
    holdout: bool = True,
    rules: str = NO_RULES,
    accept: Collection[str] = (),
    append: bool = False,
    layout: str = AUTO,
    tell: Tell = lambda _: None,
    progress: Progress = lambda *_: None,
    **reference: Path | None,
) -> Snapshot:
    """Publish the market that a source describes; the same content again changes nothing on disk.

    A source is a file of all symbols, which ends in ``.parquet`` or ``.csv`` (commas, UTF-8, one header line), a folder
    with a CSV file for each symbol (:mod:`storage.layouts`), or the tree of a qlib data set (:mod:`storage.qlib`),
    whose instruments are the membership where no other is given. Case does not matter in column names. Dates may be
    timestamps, or text like 2020-12-31 or 2020/12/31, with a time or without; the clock of a text counts,
    whatever offset follows it. Columns, splits and the rule for hold-outs are those of :func:`storage.markets.publish`,
    except that the sector may also be called ``industry_l1`` or ``industry``. An extra column of text is numeric when
    at least half of its values are numbers, or true and false, which are 1 and 0, and then each of them has to be one;
    otherwise it is ignored, which is said.

    Args:
        root: the folder that holds ``markets/``.
        name: of the market.
        source: where the bars are.
        train_end: last day of train.
        valid_end: last day of valid.
        holdout: whether what comes after is sealed.
        rules: how the instruments trade.
        accept: rules whose errors do not stop the import.
        append: the bars follow those of the current version.
        layout: how the source is laid out; told from what is there unless it is named.
        tell: takes what is worth saying of the source, a line at a time.
        progress: takes a stage, how much of it is done, and of how much.
        reference: a file for each table of reference data.

    Raises:
        DataError: a file is missing, empty or unreadable, a column is missing, or a value cannot be.
        SettingError: the name, the split dates or a name of rules cannot be.
        NotFoundError: there is no version that bars could follow.
    """
    given = {table: path for table, path in reference.items() if path is not None}

    def load(con: duckdb.DuckDBPyConnection) -> Mapping[str, str]:
        views = _source(con, source, layout, tell, progress)
        for table, path in given.items():
            views[table] = _read_reference(_open(con, path, f"{table}_file"), table, progress)
        return views

    terms = Terms(train_end, valid_end, holdout, rules=rules)
    return publish_views(root, name, load, terms, accept=accept, append=append, tell=tell, progress=progress)


def _source(con: duckdb.DuckDBPyConnection, path: Path, layout: str, tell: Tell, progress: Progress) -> dict[str, str]:
    """Views of the bars of a source, and of its membership where it has one."""
    if layout not in NAMES:
        raise SettingError(f"no layout {layout!r}; expected one of {', '.join(NAMES)}")
    if layout == QLIB or (layout == AUTO and is_tree(path)):
        return read_tree(con, path, tell)
    if path.is_dir() and layout != LONG:
        folder = open_folder(path, None if layout == AUTO else layout, tell)
        return {BARS: _bars(_load_folder(con, folder, tell, progress), tell, progress)}
    if layout not in {AUTO, LONG}:
        raise DataError(f"{path}: no such folder; the layout {layout} is that of a folder with a file for each symbol")
    return {BARS: _bars(_open(con, path, "bars_file"), tell, progress)}


_FILE = re.compile(r"^  file = (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _File:
    """A source file, or a folder of them, as a view with lower-case column names and each column's DuckDB type."""

    con: duckdb.DuckDBPyConnection
    name: str
    view: str
    kinds: dict[str, str]
    folder: Folder | None = None

    def require(self, *columns: str) -> None:
        """Refuse the file when it lacks one of the columns."""
        missing = [column for column in columns if column not in self.kinds]
        if missing:
            raise DataError(f"{self.name}: no column {', '.join(map(repr, missing))}; found {', '.join(self.kinds)}")


@dataclass(frozen=True, slots=True)
class _Cell:
    """How a column is read, in SQL: ``value`` is null where ``text`` is something else than ``expected``.

    An ``optional`` column is left out when most of its cells are something else.
    """

    column: str
    text: str
    value: str
    expected: str
    optional: bool = False


def _open(con: duckdb.DuckDBPyConnection, path: Path, view: str) -> _File:
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a .parquet or .csv file")
    if path.stat().st_size == 0:
        raise DataError(f"{path.name}: the file is empty")
    suffix = path.suffix.lower()
    if suffix not in {".parquet", ".csv"}:
        raise DataError(f"{path.name}: expected a file that ends in .parquet or .csv")
    # DuckDB takes a path for a pattern, in which [ and * are not themselves.
    pattern = glob.escape(str(path.resolve()))
    try:
        rows = read_csv(con, header(path), [path]) if suffix == ".csv" else con.read_parquet(pattern)
        rows.project(", ".join(f"{quoted(name)} AS {quoted(name.lower())}" for name in rows.columns)).create_view(view)
        if not con.execute(f"SELECT 1 FROM {view} LIMIT 1").fetchall():  # noqa: S608
            raise DataError(f"{path.name}: no rows below the column names")
    except duckdb.Error as error:
        raise _unreadable(path.name, error) from error
    return _File(con, path.name, view, typed(con, view))


def _load_folder(con: duckdb.DuckDBPyConnection, folder: Folder, tell: Tell, progress: Progress) -> _File:
    try:
        folder.load(con, "bars_file", progress)
        folder.check(con, "bars_file", tell)
    except duckdb.Error as error:
        raise _unreadable(folder.path.name, error) from error
    return _File(con, folder.path.name, "bars_file", typed(con, "bars_file"), folder)


_ZONED: Final = "TIMESTAMP WITH TIME ZONE"


def _bars(file: _File, tell: Tell, progress: Progress) -> str:
    file.require("date", "symbol", *REQUIRED)
    # Empty cells are told with their place as well.
    cells = [
        replace(cell, text=f"coalesce({cell.text}, '')")
        for cell in (_moment("date", file.kinds["date"]), _label("symbol"))
    ]
    for column, kind in file.kinds.items():
        if column == FILE:
            continue
        required = column in {*REQUIRED, "adj_factor"}
        if column == "suspended":
            cells.append(_flag(column))
        elif required or (FIELD.fullmatch(column) and column not in RESERVED):
            if numeric(kind) or (kind == TRUTH and not required):
                cells.append(_Cell(column, quoted(column), f"CAST({quoted(column)} AS DOUBLE)", "a number"))
            elif kind == "VARCHAR":
                cells.append(_number(column) if required else _measure(column))
            elif required:
                raise DataError(f"{file.name}: column {column!r} holds {kind} values, expected numbers")
    if file.kinds["date"] == _ZONED:
        tell("times of the column date, which has a zone, are taken as those of UTC")
    view = _read(file, cells, progress)
    left = file.kinds.keys() - typed(file.con, view).keys() - {FILE}
    if left:
        tell(f"columns not read: {', '.join(sorted(left))}")
    return view


_SECTOR: Final = ("sector", "industry_l1", "industry")  # what files call it


def _read_reference(file: _File, table: str, progress: Progress) -> str:
    """A view of reference data: the columns that the table has, and those that it may have where they are there."""
    columns, optional = columns_of(table)
    cells = []
    for column, kind in columns.items():
        names = _SECTOR if column == "sector" else (column,)
        there = next((name for name in names if name in file.kinds), None)
        if there is None and column in optional:
            continue
        file.require(there or column)
        cells.append(replace(_CELLS[kind](there or column), column=column))
    return _read(file, cells, progress)


def _text(column: str) -> str:
    return f"nullif(trim(CAST({quoted(column)} AS VARCHAR)), '')"


def _label(column: str) -> _Cell:
    return _Cell(column, _text(column), _text(column), "a name")


def _number(column: str) -> _Cell:
    return _Cell(column, _text(column), f"TRY_CAST({_text(column)} AS DOUBLE)", "a number")


def _measure(column: str) -> _Cell:
    text = _text(column)
    value = f"coalesce(TRY_CAST({text} AS DOUBLE), CASE lower({text}) WHEN 'true' THEN 1 WHEN 'false' THEN 0 END)"
    return _Cell(column, text, value, "a number", optional=True)


# DuckDB takes 02-01-20 for the year 2, and passes over what follows a time, such as PM.
_WRITTEN: Final = r"\d{4}[-/ ]\d{1,2}[-/ ]\d{1,2}([T ]+[\d:.]+ *(Z|[+-][\d:]+)?)?"


def _moment(column: str, kind: str = "VARCHAR") -> _Cell:
    typed_so = kind == "DATE" or kind.startswith("TIMESTAMP")
    moment = f"TRY_CAST({quoted(column) if typed_so else _text(column)} AS TIMESTAMP)"
    written = "true" if typed_so else f"{_text(column)} SIMILAR TO '{_WRITTEN}'"
    # Years outside 1-9999 and infinity are dates to DuckDB and to nobody else.
    value = f"CASE WHEN year({moment}) BETWEEN 1 AND 9999 AND {written} THEN {moment} END"
    return _Cell(column, _text(column), value, "a date like 2020-12-31")


def _day(column: str) -> _Cell:
    moment = _moment(column).value
    value = f"CASE WHEN date_trunc('day', {moment}) = {moment} THEN CAST({moment} AS DATE) END"
    return _Cell(column, _text(column), value, "a date like 2020-12-31")


def _flag(column: str) -> _Cell:
    text = _text(column)
    yes, no = (f"lower({text}) IN ({words})" for words in ("'true', '1', '1.0'", "'false', '0', '0.0'"))
    value = f"CASE WHEN {yes} THEN true WHEN {no} THEN false END"
    return _Cell(column, text, value, "true, false, 1 or 0")


_CELLS: Final = {"VARCHAR": _label, "DATE": _day, "DOUBLE": _number}


def _read(file: _File, cells: list[_Cell], progress: Progress) -> str:
    """A view of the columns as typed values; refused here at the first value that is not as expected."""
    try:
        counted = ", ".join(f"count({cell.text}), count({cell.value})" for cell in cells)
        [counts] = watched(file.con, f"SELECT {counted} FROM {file.view}", progress)  # noqa: S608
        kept = []
        for cell, present, read in zip(cells, counts[::2], counts[1::2], strict=True):
            if cell.optional and read * 2 < present:
                continue
            if read < present:
                raise _misfit(file, cell, present - read)
            kept.append(cell)
    except duckdb.Error as error:
        raise _unreadable(file.name, error) from error
    columns = ", ".join(f"{cell.value} AS {quoted(cell.column)}" for cell in kept)
    view = f"{file.view}_typed"
    file.con.execute(f"CREATE VIEW {view} AS SELECT {columns} FROM {file.view}")  # noqa: S608
    return view


def _misfit(file: _File, cell: _Cell, count: int) -> DataError:
    wrong = f"WHERE {cell.text} IS NOT NULL AND {cell.value} IS NULL"
    name, place, rows = file.name, "row", f"(SELECT row_number() OVER () AS {LINE}, * FROM {file.view})"  # noqa: S608
    if file.folder is not None:
        [(first,)] = file.con.execute(f"SELECT min({FILE}) FROM {file.view} {wrong}").fetchall()  # noqa: S608
        file.folder.load_one(file.con, "suspect", Path(first))
        name, place, rows = Path(first).name, "line", "suspect"
    [(number, text)] = file.con.execute(
        f"SELECT {LINE}, {cell.text} FROM {rows} {wrong} ORDER BY {LINE} LIMIT 1"  # noqa: S608
    ).fetchall()
    more = f" (and {count - 1} more)" if count > 1 else ""
    return DataError(f"{name}: {place} {number}: {cell.column} is {text!r}, expected {cell.expected}{more}")


def _unreadable(name: str, error: duckdb.Error) -> DataError:
    # Past its first paragraph DuckDB's message is advice on options that the user does not have, and then the file.
    reason = "; ".join(line for line in str(error).partition("\nPossible ")[0].split("\n") if line)
    file = _FILE.search(str(error))
    return DataError(f"{Path(file[1]).name if file else name}: cannot be read: {reason[:300]}")

"""Ingest: sources as vendors lay them out, checked cell by cell and published as a market."""

import glob
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import duckdb

from factors.errors import DataError, SettingError
from factors.frame import ArrowStream
from storage.layouts import AUTO, FILE, LINE, LONG, NAMES, QLIB, Folder, header, open_folder, read_csv
from storage.markets import publish
from storage.qlib import is_tree, read_tree
from storage.snapshot import LIMITS, Snapshot, quoted
from storage.staging import FIELD, REQUIRED, RESERVED, numeric


def import_market(
    root: Path,
    name: str,
    source: Path,
    *,
    membership: Path | None = None,
    sectors: Path | None = None,
    train_end: date | None = None,
    valid_end: date | None = None,
    holdout: bool = True,
    layout: str = AUTO,
    tell: Callable[[str], object] = lambda _: None,
) -> Snapshot:
    """Publish the market that a source describes; the same content again changes nothing on disk.

    A source is a file of all symbols, which ends in ``.parquet`` or ``.csv`` (commas, UTF-8, one header line), a folder
    with a CSV file for each symbol (:mod:`storage.layouts`), or the tree of a qlib data set (:mod:`storage.qlib`),
    whose instruments are the membership where no other is given. Case does not matter in column names. Dates may be
    any text or timestamp that DuckDB reads as a date at midnight. Columns, splits and the rule for hold-outs are those
    of :func:`storage.markets.publish`, except that the sector may also be called ``industry_l1`` or ``industry``. An
    extra column of text is numeric when at least half of its values are numbers, and then each of them has to be one;
    otherwise it is ignored.

    Args:
        root: the folder that holds ``markets/``.
        name: of the market.
        source: where the bars are.
        membership: a file of who belongs to which index.
        sectors: a file of sectors.
        train_end: last day of train.
        valid_end: last day of valid.
        holdout: whether what comes after is sealed.
        layout: how the source is laid out; told from what is there unless it is named.
        tell: takes what is worth saying of the source, a line at a time.

    Raises:
        DataError: a file is missing, empty or unreadable, a column is missing, or a value cannot be.
        SettingError: the name or the split dates cannot be.
    """
    with duckdb.connect(":memory:", config={**LIMITS, "temp_directory": ""}) as con:
        # Or a timestamp with a zone would be another day on another machine.
        con.execute("SET TimeZone = 'UTC'")
        bars, members = _source(con, source, layout, tell)
        return publish(
            root,
            name,
            bars,
            membership=members if membership is None else _membership(_open(con, membership, "membership")),
            sectors=None if sectors is None else _sectors(_open(con, sectors, "sectors")),
            train_end=train_end,
            valid_end=valid_end,
            holdout=holdout,
            tell=tell,
        )


def _source(
    con: duckdb.DuckDBPyConnection, path: Path, layout: str, tell: Callable[[str], object]
) -> tuple[ArrowStream, ArrowStream | None]:
    """The bars of a source, and its membership where it has one."""
    if layout not in NAMES:
        raise SettingError(f"no layout {layout!r}; expected one of {', '.join(NAMES)}")
    if layout == QLIB or (layout == AUTO and is_tree(path)):
        tree = read_tree(con, path, tell)
        return tree.bars, tree.membership
    if path.is_dir() and layout != LONG:
        folder = open_folder(path, None if layout == AUTO else layout, tell)
        return _bars(_open_folder(con, folder, tell)), None
    if layout not in {AUTO, LONG}:
        raise DataError(f"{path}: no such folder; the layout {layout} is that of a folder with a file for each symbol")
    return _bars(_open(con, path, "bars")), None


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
    return _File(con, path.name, view, _kinds(con, view))


def _open_folder(con: duckdb.DuckDBPyConnection, folder: Folder, tell: Callable[[str], object]) -> _File:
    try:
        folder.create_view(con, "bars")
        folder.check(con, "bars", tell)
    except duckdb.Error as error:
        raise _unreadable(folder.path.name, error) from error
    return _File(con, folder.path.name, "bars", _kinds(con, "bars"), folder)


def _kinds(con: duckdb.DuckDBPyConnection, view: str) -> dict[str, str]:
    opened = con.table(view)
    return dict(zip(opened.columns, map(str, opened.types), strict=True))


def _bars(file: _File) -> ArrowStream:
    file.require("date", "symbol", *REQUIRED)
    cells = [_day("date"), _label("symbol")]
    for column, kind in file.kinds.items():
        if column == FILE:
            continue
        required = column in {*REQUIRED, "adj_factor"}
        if column == "suspended":
            cells.append(_flag(column))
        elif required or (FIELD.fullmatch(column) and column not in RESERVED):
            if numeric(kind):
                cells.append(_Cell(column, quoted(column), f"CAST({quoted(column)} AS DOUBLE)", "a number"))
            elif kind == "VARCHAR":
                text = _text(column)
                cells.append(_Cell(column, text, f"TRY_CAST({text} AS DOUBLE)", "a number", optional=not required))
            elif required:
                raise DataError(f"{file.name}: column {column!r} holds {kind} values, expected numbers")
    return _read(file, cells)


def _membership(file: _File) -> ArrowStream:
    file.require("symbol", "start", "end")
    cells = [_label("symbol"), _day("start"), _day("end")]
    if "index" in file.kinds:
        cells.append(_label("index"))
    return _read(file, cells)


def _sectors(file: _File) -> ArrowStream:
    column = next((name for name in ("sector", "industry_l1", "industry") if name in file.kinds), "sector")
    file.require("symbol", column)
    return _read(file, [_label("symbol"), replace(_label(column), column="sector")])


def _text(column: str) -> str:
    return f"nullif(trim(CAST({quoted(column)} AS VARCHAR)), '')"


def _label(column: str) -> _Cell:
    return _Cell(column, _text(column), _text(column), "a name")


def _day(column: str) -> _Cell:
    moment = f"TRY_CAST({_text(column)} AS TIMESTAMP)"
    # Years outside 1-9999 and infinity are dates to DuckDB and to nobody else.
    day = f"date_trunc('day', {moment}) = {moment} AND year({moment}) BETWEEN 1 AND 9999"
    return _Cell(column, _text(column), f"CASE WHEN {day} THEN CAST({moment} AS DATE) END", "a date like 2020-12-31")


def _flag(column: str) -> _Cell:
    text = _text(column)
    yes, no = (f"lower({text}) IN ({words})" for words in ("'true', '1', '1.0'", "'false', '0', '0.0'"))
    value = f"CASE WHEN {yes} THEN true WHEN {no} THEN false END"
    return _Cell(column, text, value, "true, false, 1 or 0")


def _read(file: _File, cells: list[_Cell]) -> ArrowStream:
    """The columns as typed values, lazily; refused here at the first value that is not as expected."""
    try:
        counted = ", ".join(f"count({cell.text}), count({cell.value})" for cell in cells)
        [counts] = file.con.execute(f"SELECT {counted} FROM {file.view}").fetchall()  # noqa: S608
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
    return file.con.sql(f"SELECT {columns} FROM {file.view}")  # noqa: S608


def _misfit(file: _File, cell: _Cell, count: int) -> DataError:
    wrong = f"WHERE {cell.text} IS NOT NULL AND {cell.value} IS NULL"
    name, place, rows = file.name, "row", f"(SELECT row_number() OVER () AS {LINE}, * FROM {file.view})"  # noqa: S608
    if file.folder is not None:
        [(first,)] = file.con.execute(f"SELECT min({FILE}) FROM {file.view} {wrong}").fetchall()  # noqa: S608
        file.folder.create_view(file.con, "suspect", Path(first))
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

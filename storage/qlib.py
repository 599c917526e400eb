"""The tree of a qlib data set: a calendar, who was in which index when, and for each symbol a file of each field."""

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import duckdb

from factors.errors import DataError
from factors.frame import PlainStream
from factors.prose import first_few
from factors.qlib import unpacked
from storage.snapshot import insert_rows, quoted
from storage.staging import REQUIRED

_EVERYTHING: Final = "all"  # the file of instruments that is no index
_SUFFIX: Final = ".day.bin"


def is_tree(path: Path) -> bool:
    """Whether a folder is a qlib data set."""
    return (path / "calendars").is_dir() and (path / "features").is_dir()


def read_tree(con: duckdb.DuckDBPyConnection, path: Path, tell: Callable[[str], object]) -> dict[str, str]:
    """Read a tree into tables of a database, and say what is there; their names by what they hold.

    Raises:
        DataError: a file is missing, or cannot be.
    """
    calendar = _calendar(path / "calendars" / "day.txt")
    fields = {file.name.removesuffix(_SUFFIX) for file in (path / "features").glob(f"*/*{_SUFFIX}")} - {"factor"}
    missing = sorted({*REQUIRED} - fields)
    if missing:
        raise DataError(f"{path}: no symbol below features has a file {missing[0]}{_SUFFIX}")
    columns = ", ".join(f"{quoted(name)} DOUBLE" for name in sorted({*fields, "adj_factor"}))
    con.execute(f"CREATE TABLE tree (date DATE, symbol VARCHAR, {columns})")
    symbols, closeless, unadjusted = 0, list[str](), list[str]()
    for symbol, files in _symbols(path / "features"):
        if "close" not in files:
            closeless.append(symbol)
            continue
        if "factor" not in files:
            unadjusted.append(symbol)
        con.register("one", PlainStream(unpacked(symbol, files, calendar)))
        con.execute("INSERT INTO tree BY NAME FROM one")
        con.unregister("one")
        symbols += 1
    con.execute('CREATE TABLE members ("index" VARCHAR, symbol VARCHAR, start DATE, "end" DATE)')
    rows = [*_membership(path / "instruments", calendar[-1])]
    insert_rows(con, "members", rows)
    indices = sorted({index for index, *_ in rows})
    tell(
        f"layout qlib, told from its folders calendars and features: {symbols} symbols, "
        f"{len(calendar)} days from {calendar[0]} to {calendar[-1]}, indices: {', '.join(indices) or 'none'}"
    )
    for lacking, says in ((closeless, "left out, without a close"), (unadjusted, "no factor, prices as traded")):
        if lacking:
            tell(f"{says}: {first_few(lacking)}")
    return {"bars": "tree", **({"membership": "members"} if rows else {})}


def _symbols(folder: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Each symbol with what is in its files, by field."""
    for each in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = {file.name.removesuffix(_SUFFIX): file.read_bytes() for file in sorted(each.glob(f"*{_SUFFIX}"))}
        yield each.name.upper(), files


def _calendar(path: Path) -> list[date]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; bars of days are expected")
    days = [_day(line, path, number) for number, line in _lines(path)]
    if not days or sorted(set(days)) != days:
        raise DataError(f"{path.name}: the days of the calendar do not ascend")
    return days


def _membership(folder: Path, last: date) -> Iterator[tuple[str, str, date, date | None]]:
    """Index, symbol, first day, and the day behind the last; there is none where that is the calendar's ``last``."""
    for file in sorted(folder.glob("*.txt")):
        if file.stem == _EVERYTHING:
            continue
        for number, line in _lines(file):
            symbol, *days = line.split("\t")
            if len(days) < 2:  # noqa: PLR2004
                raise DataError(f"{file.name}: line {number}: expected a symbol, its first and its last day")
            start, end = (_day(day, file, number) for day in days[:2])
            yield file.stem, symbol.upper(), start, end + timedelta(days=1) if end < last else None


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is no text in UTF-8") from error
    return [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]


def _day(text: str, path: Path, number: int) -> date:
    try:
        return date.fromisoformat(text.strip()[:10])
    except ValueError as error:
        raise DataError(f"{path.name}: line {number}: {text.strip()!r} is no date like 2020-12-31") from error

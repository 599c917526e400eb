"""Parts: the bars of a version in Parquet files of some days each, which later versions share while they are the same.

A day is told by a digest of its bars and of the names of their columns. A part of an earlier version whose every day is
as it was is linked, and not written again.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import duckdb

from storage.snapshot import literal, quoted
from storage.staging import typed

ROWS: Final = 1 << 21  # bars that are in a file, and in memory, at a time; a day may have more

# What is digested of a value, in SQL by its type: none is null.
_DIGESTED: Final = {
    "VARCHAR": "{}",
    "DOUBLE": "coalesce({}, CAST('nan' AS DOUBLE))",
    "BOOLEAN": "{}",
    "DATE": "CAST({} - DATE '1970-01-01' AS INTEGER)",
    "TIMESTAMP": "epoch_us({})",
}
# So that what is stored by date or by time is skipped rather than read.
_THOSE_DAYS: Final = "WHERE date >= CAST($first AS DATE) AND date < CAST($last AS DATE) + 1"


@dataclass(frozen=True, slots=True)
class Day:
    """The bars of a day: how many, and a digest of them."""

    date: date
    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class Part:
    """A file of bars, and the days that it holds."""

    path: Path
    days: tuple[Day, ...]


def staged_days(con: duckdb.DuckDBPyConnection, report: Callable[[int], object]) -> list[Day]:
    """The days of the table ``bars``, in order; ``report`` takes how many bars have been looked at.

    The digest changes with the last bit of any value, and not with the order of rows or columns.
    """
    kinds = typed(con, "bars")
    head = json.dumps(sorted(kinds)).encode()
    columns = ", ".join(_DIGESTED[kind].format(quoted(name)) for name, kind in sorted(kinds.items()))
    marks = _Marks()
    counts = con.execute("SELECT CAST(date AS DATE) AS day, count(*) FROM bars GROUP BY day ORDER BY day").fetchall()
    found: list[Day] = []
    done = 0
    for group in grouped([Day(day, rows, "") for day, rows in counts]):
        # A table is read in the order in which it was filled: by date and symbol.
        cells = con.execute(f"SELECT {columns} FROM bars {_THOSE_DAYS}", _bounds(group)).fetchnumpy()  # noqa: S608
        start = 0
        for day in group:
            digest = hashlib.sha256(head)
            for values in cells.values():
                of_day = values[start : start + day.rows]
                digest.update(marks.of(of_day.tolist()) if of_day.dtype == object else of_day.tobytes())
            found.append(Day(day.date, day.rows, digest.hexdigest()))
            start += day.rows
        done += start
        report(done)
    return found


def write_parts(
    con: duckdb.DuckDBPyConnection,
    folder: Path,
    days: Iterable[Day],
    known: Iterable[Part],
    report: Callable[[int], object],
) -> list[Part]:
    """Make a folder of files with the bars of these days.

    Args:
        con: whose table ``bars`` holds the days that no known part holds as they are.
        folder: to make.
        days: in order.
        known: parts of other versions.
        report: takes how many bars are in place.
    """
    folder.mkdir()
    wanted = {day.date: day for day in days}
    parts: list[Part] = []
    for part in known:
        if all(wanted.get(day.date) == day for day in part.days):
            parts.append(Part(folder / part.path.name, part.days))
            _link(part.path, parts[-1].path)
            for day in part.days:
                del wanted[day.date]
    done = sum(day.rows for part in parts for day in part.days)
    report(done)
    for group in grouped(list(wanted.values())):
        parts.append(Part(folder / f"{group[0].date}.parquet", tuple(group)))
        # Neighbouring prices of one instrument are alike, which takes less room than the order of dates.
        con.execute(
            f"COPY (FROM bars {_THOSE_DAYS} ORDER BY symbol, date) "
            f"TO {literal(parts[-1].path)} (FORMAT parquet, COMPRESSION zstd)",
            _bounds(group),
        )
        done += sum(day.rows for day in group)
        report(done)
    return sorted(parts, key=lambda part: part.days[0].date)


def grouped(days: Sequence[Day]) -> Iterator[list[Day]]:
    """Days of one month that are together no more than a file should hold, in order."""
    group: list[Day] = []
    rows = 0
    for day in days:
        same = group and (group[0].date.year, group[0].date.month) == (day.date.year, day.date.month)
        if group and not (same and rows + day.rows <= ROWS):
            yield group
            group, rows = [], 0
        group.append(day)
        rows += day.rows
    if group:
        yield group


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # the file system has no links, or no more of one file
        shutil.copyfile(source, target)


def _bounds(group: Sequence[Day]) -> dict[str, date]:
    return {"first": group[0].date, "last": group[-1].date}


class _Marks:
    """Texts by their MD5, which is worked out once for each: texts of one column are few, and of all lengths."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[bytes, bytes]] = {}

    def of(self, texts: Sequence[str]) -> bytes:
        """The second halves of all of them, then the first ones."""
        for text in set(texts).difference(self._known):
            mark = hashlib.md5(text.encode(), usedforsecurity=False).digest()
            self._known[text] = mark[8:], mark[:8]
        marks = [self._known[text] for text in texts]
        return b"".join([half for half, _ in marks]) + b"".join([half for _, half in marks])

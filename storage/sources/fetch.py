"""Fetching: a folder with a CSV file of bars for each symbol, filled from a source and carried on later.

A file is only ever replaced as a whole, and what it holds stays as it is: later bars are added after it has been seen
that the source tells the last ones as before. Where it does not, the symbol is fetched anew.
"""

import csv
import fcntl
import json
import os
import re
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from factors.errors import SettingError
from storage.disk import sync
from storage.sources.source import Answer, Bar, Source, SourceError, UnansweredError

OVERLAP: Final = 5  # bars that are asked for again
_LONGEST: Final = 300.0  # seconds that a source may ask to be left alone, before its symbol is given up
_STEP: Final = 1e-6  # relative difference of two factors' steps that is none
_CLAIM: Final = "source.json"
_STEM: Final = re.compile(r"[\w^][\w.^=&-]*", re.ASCII)

Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class Patience:
    """How a source is treated.

    Attributes:
        pause: seconds between what it is asked.
        wait: the most seconds before it is asked the same for the second time; before each later time twice as many.
        attempts: how often it is asked the same at most.
    """

    pause: float = 1.0
    wait: float = 2.0
    attempts: int = 5


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of a symbol.

    Attributes:
        symbol: which.
        bars: how many its file has now.
        added: how many of them were not there before.
        last: the day of the last one.
        anew: whether the file was written anew, because the source told some of its bars otherwise.
        unfinished: whether a bar was left out because its day is not over yet.
        error: why there is nothing new, if it went wrong.
    """

    symbol: str
    bars: int = 0
    added: int = 0
    last: str = ""
    anew: bool = False
    unfinished: bool = False
    error: str | None = None


def claim(folder: Path, **request: str | None) -> None:
    """Make the folder one of this request's, or see that it is.

    Raises:
        SettingError: it is another's, whose files cannot be carried on with this one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _CLAIM
    if not path.exists():
        _replace(path, lambda part: part.write_text(json.dumps(request) + "\n", encoding="utf-8"))
    elif (there := json.loads(path.read_text(encoding="utf-8"))) != request:
        words = ", ".join(f"{name} {value}" for name, value in there.items() if value)
        raise SettingError(f"{folder} was begun with {words}; fetch anything else into another folder")


def fetch(
    source: Source,
    folder: Path,
    symbols: Sequence[str],
    start: date,
    end: date | None = None,
    patience: Patience = Patience(),
) -> Iterator[Fetched]:
    """Bring the files of these symbols up to date, those furthest behind first; a symbol each time one is taken.

    What goes wrong with one is told of it and hinders no other. It can be stopped anywhere: each file is then as it was
    or as it is to be.

    Args:
        source: where bars come from; closed in the end.
        folder: where the files are, named after their symbols with ``-`` for ``/`` and ``:``.
        symbols: as the source spells them.
        start: the first day wanted.
        end: the last day wanted; the last that is over unless given.
        patience: how the source is treated.

    Raises:
        SettingError: two symbols would be in one file, or one in none; or, once one is taken, another process fills
            the folder.
    """
    paths = {symbol: folder / f"{_stem(symbol)}.csv" for symbol in symbols}
    names = Counter(path.name.casefold() for path in paths.values())
    for symbol, path in paths.items():
        if names[path.name.casefold()] > 1:
            raise SettingError(f"{symbol} and another symbol would both be in {path.name}")
    return _Work(source, start, end, patience).bring_all_up(folder, paths)


def _stem(symbol: str) -> str:
    stem = re.sub("[/:]", "-", symbol)
    if not _STEM.fullmatch(stem) or stem.startswith("_"):  # such files are left out when a folder is imported
        raise SettingError(f"{symbol!r} is no symbol")
    return stem


class _Work:
    """One request at work."""

    def __init__(self, source: Source, start: date, end: date | None, patience: Patience) -> None:
        self._source, self._start, self._end, self._patience = source, start, end, patience
        self._asked = False
        self._columns = ("date", *source.columns, *(["adj_factor"] if source.adjusted else []))

    def bring_all_up(self, folder: Path, paths: dict[str, Path]) -> Iterator[Fetched]:
        try:
            with _alone(folder):
                for symbol in sorted(paths, key=lambda symbol: _last_day(paths[symbol])):
                    try:
                        yield self._bring_up(symbol, paths[symbol])
                    except SourceError as error:
                        yield Fetched(symbol, error=str(error))
        finally:
            self._source.close()

    def _bring_up(self, symbol: str, path: Path) -> Fetched:
        before = _read(path, self._columns)
        if before and self._end and before[-1]["date"] >= self._end.isoformat():
            return Fetched(symbol, len(before), last=before[-1]["date"])
        since = date.fromisoformat(before[-OVERLAP:][0]["date"]) if before else self._start
        bars, unfinished = self._ask(symbol, since)
        rows = self._carried_on(before, bars) if before else _rows(bars)
        anew = rows is None
        if rows is None:
            bars, unfinished = self._ask(symbol, self._start)
            rows = _rows(bars)
            if not {row["date"] for row in before} <= {row["date"] for row in rows}:
                raise SourceError(f"{path.name} has days that the source no longer has; take it away to fetch the rest")
        if not rows:
            raise SourceError("there is no bar yet of the days wanted")
        if len(rows) > len(before) or anew:
            _replace(path, lambda part: _write(part, self._columns, rows))
        return Fetched(symbol, len(rows), len(rows) - len(before), rows[-1]["date"], anew, unfinished)

    def _ask(self, symbol: str, since: date) -> tuple[list[Bar], bool]:
        """The bars from a day on that will not change any more, and whether there is another."""
        if self._asked:
            time.sleep(self._patience.pause)
        self._asked = True
        jitter = wait_random_exponential(multiplier=self._patience.wait, max=_LONGEST)
        retrying = Retrying(
            stop=stop_after_attempt(self._patience.attempts),
            wait=lambda state: max(jitter(state), _asked_for(state)),
            retry=retry_if_exception(_may_pass),
            reraise=True,
        )
        with warnings.catch_warnings(action="ignore"):  # which are for the libraries' authors
            answer: Answer = retrying(self._answer, symbol, since)
        today = datetime.now(answer.zone).date()
        wanted = [bar for bar in answer.bars if since <= bar.day and (self._end is None or bar.day <= self._end)]
        over = [bar for bar in wanted if bar.day < today]
        return over, len(over) < len(wanted)

    def _answer(self, symbol: str, since: date) -> Answer:
        try:
            answer = self._source.ask(symbol, since)
        except SourceError:
            raise
        except Exception as error:  # libraries stumble in many ways over answers that they do not expect
            raise UnansweredError(f"the answer cannot be read: {error!r}") from error
        if any(bar.day >= later.day for bar, later in pairwise(answer.bars)):
            raise UnansweredError("the answer has a day twice, or days out of order")
        return answer

    def _carried_on(self, before: list[Row], bars: list[Bar]) -> list[Row] | None:
        """The rows before and those of later bars; none if the bars tell one of the last rows otherwise."""
        known = before[-OVERLAP:]
        again = [bar for bar in bars if bar.day.isoformat() <= known[-1]["date"]]
        if [bar.day.isoformat() for bar in again] != [row["date"] for row in known]:
            return None
        for row, bar in zip(known, again, strict=True):
            if any(_differ(row[column], bar.cells[column], slack) for column, slack in self._source.compared.items()):
                return None
        if not self._source.adjusted:
            return [*before, *_rows(bars[len(again) :])]
        factors = [float(row["adj_factor"]) for row in known]
        for one, other, bar in zip(factors, factors[1:], again[1:], strict=False):
            if abs(other / one / bar.step - 1) > _STEP:
                return None
        return [*before, *_rows(bars[len(again) :], factors[-1])]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While no other process fills the folder: both would write the same files beside those that they replace."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SettingError(f"{folder} is being filled by another process; wait for its end") from error
    else:
        yield
    finally:
        os.close(descriptor)


def _rows(bars: Sequence[Bar], factor: float = 1.0) -> list[Row]:
    """Of bars that follow one with this factor."""
    rows = []
    for bar in bars:
        factor *= bar.step
        rows.append({"date": bar.day.isoformat(), **bar.cells, "adj_factor": repr(factor)})
    return rows


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, UnansweredError) and error.seconds <= _LONGEST


def _asked_for(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return error.seconds if isinstance(error, UnansweredError) else 0.0


def _differ(one: str, other: str, slack: float) -> bool:
    if one == other:
        return False
    try:
        first, second = float(one), float(other)
    except ValueError:
        return True
    return abs(first - second) > slack * max(abs(first), abs(second))


def _last_day(path: Path) -> str:
    rows = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return rows[-1].partition(",")[0] if rows else ""


def _read(path: Path, columns: tuple[str, ...]) -> list[Row]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        if tuple(reader.fieldnames or ()) != columns:
            raise SourceError(f"{path.name} has other columns than those of this source; take it away to fetch it")
    return rows


def _write(path: Path, columns: tuple[str, ...], rows: Sequence[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside another, and put it in its place once it is on disk."""
    part = path.with_name(f".{path.name}.part")
    write(part)
    sync(part)
    part.replace(path)
    sync(path.parent)

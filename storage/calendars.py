"""Calendars of exchanges, as the library ``exchange_calendars`` knows them (the extra ``calendars``)."""

import difflib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import duckdb

from factors.annual import bars_a_year
from factors.errors import SettingError


class LibraryMissingError(SettingError):
    """The extra ``calendars`` is not installed."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """The sessions of an exchange, in order.

    Attributes:
        known_from: the first day of which it is known whether it is a session, January 1 where all are.
        known_to: the last such day, December 31 where all are.
        days: one for each session.
        opens: times of the exchange's place, without a zone, as are the following.
        closes: of its end, which may be on the day after.
        pauses: of its break's begin, ``None`` where it has none.
        resumes: of its break's end.
    """

    known_from: date
    known_to: date
    days: list[date]
    opens: list[datetime]
    closes: list[datetime]
    pauses: list[datetime | None]
    resumes: list[datetime | None]


def check_exchange(exchange: str) -> None:
    """See whether there is a calendar of that name.

    Raises:
        SettingError: there is none, or no library of calendars.
    """
    with _library() as library:
        known = library.get_calendar_names()
    if exchange not in known:
        near = difflib.get_close_matches(exchange.upper(), known, n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise SettingError(
            f"no calendar of an exchange {exchange!r}; {hint}"
            "Expected a market identifier code (ISO 10383) such as XNYS or XSHG, or 24/7 for one that never closes"
        )


def sessions(exchange: str, first: date, last: date) -> Sessions:
    """The sessions of an exchange in all years from that of ``first`` to that of ``last`` of which its calendar knows.

    Args:
        exchange: its market identifier code (ISO 10383), or ``24/7``.
        first: a day.
        last: the same or a later one.

    Raises:
        SettingError: there is no calendar of that name, or no library of calendars.
    """
    check_exchange(exchange)
    with _library() as library:
        whole = library.get_calendar(exchange)
        since, till = whole.bound_min(), whole.bound_max()
        begin, end = date(first.year, 1, 1), date(last.year, 12, 31)
        known_from, known_to = begin if since is None else since.date(), end if till is None else till.date()
        begin, end = max(begin, known_from), min(end, known_to)
        if begin > end:
            return Sessions(known_from, known_to, [], [], [], [], [])
        calendar = library.get_calendar(exchange, start=begin, end=end)
        table, zone = calendar.schedule, calendar.tz

        def local(column: str) -> list[Any]:
            times = table[column].dt.tz_convert(zone).dt.tz_localize(None)
            return [None if time != time else time.to_pydatetime() for time in times]  # noqa: PLR0124 - not a time

        return Sessions(
            known_from,
            known_to,
            [day.date() for day in table.index],
            local("open"),
            local("close"),
            local("break_start"),
            local("break_end"),
        )


def bars_per_year(con: duckdb.DuckDBPyConnection, exchange: str | None) -> float:
    """How many bars of the table ``bars`` make up a year, for figures that are told per year.

    Args:
        con: where the table is.
        exchange: whose calendar says how many days a year has; the bars say it themselves where ``None``.

    Raises:
        SettingError: there is no calendar of that name, or no library of calendars.
    """
    [(first, last, days, daily)] = con.execute(
        "SELECT min(day), max(day), count(DISTINCT day), count(*) / count(DISTINCT day) "
        "FROM (SELECT date, CAST(date AS DATE) AS day FROM (SELECT DISTINCT date FROM bars))"
    ).fetchall()
    if exchange is not None:
        known = sessions(exchange, first, last)
        if known.days:
            first = max(known.known_from, date(first.year, 1, 1))
            last = min(known.known_to, date(last.year, 12, 31))
            days = len(known.days)
    return bars_a_year(first, last, days, daily)


@contextmanager
def _library() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks pandas for what pandas is about to change
        try:
            import exchange_calendars  # noqa: PLC0415 - an extra, which takes a second
        except ImportError:
            raise LibraryMissingError(
                "the calendar of an exchange takes an extra: pip install 'alphaagent[calendars]'"
            ) from None
        yield exchange_calendars

"""Quality: what looks wrong in bars, by rules that each are a query.

Bars are looked at as they were traded, and adjusted only where a rule says so: a split that a vendor has missed and one
that it has made up both show in the series that factors see.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Final, TypeAlias

import duckdb

from factors.frame import to_frame
from factors.shift import Batch, shifts
from storage.calendars import LibraryMissingError, Sessions, sessions
from storage.rules import EVERYBODY, RULES, Needs, Rule, Severity, clear, lay_out
from storage.snapshot import Snapshot
from storage.trading_rules import rule_set

__all__ = ["EVERYBODY", "RULES", "Finding", "Quality", "Rule", "Severity", "examine", "inspect"]

Row: TypeAlias = tuple[str, date, str]

MOST: Final = 10_000  # findings of a rule that are told one by one
_BATCH: Final = 1_250_000  # moves that are in memory at a time, of 500 symbols over ten years

_MARKET: Final = """
    SELECT move FROM (SELECT DISTINCT number FROM look.days) LEFT JOIN look.typical USING (number) ORDER BY number
"""
_OF_SYMBOLS: Final = """
    SELECT lane - ? AS place, number AS day, move FROM look.daily WHERE lane BETWEEN ? AND ?
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """That a bar of a symbol, or a run of them from that day on, breaks a rule, and how.

    Attributes:
        rule: its name.
        severity: the rule's.
        symbol: ``*`` for the market as a whole.
        date: the day, with a time where bars are of less than a day.
        detail: in words.
    """

    rule: str
    severity: Severity
    symbol: str
    date: date
    detail: str


@dataclass(frozen=True, slots=True)
class Quality:
    """What a look at the bars has come to.

    Attributes:
        findings: errors first, then by rule, symbol and date; the first 10,000 of each rule.
        more: of rules that have found more, how many.
        unsaid: rules that say nothing here, and why.
    """

    findings: tuple[Finding, ...]
    more: dict[str, int]
    unsaid: dict[str, str]


def examine(snapshot: Snapshot) -> Quality:
    """Look at the in-sample bars of a snapshot, and at the sessions of its exchange; more in :func:`inspect`."""
    with snapshot.connect() as con:
        return inspect(con, rule_set(snapshot.trading_rules).exchange)


def inspect(con: duckdb.DuckDBPyConnection, exchange: str | None) -> Quality:
    """Look at the bars of a connection, outside of a transaction; what is found is told, so let it see none sealed.

    Memory is the connection's to limit, but for some 100 MB.

    Args:
        con: with tables or views ``bars`` (``date``, a date, or a timestamp in local time where bars are of less than a
            day, ``symbol``, ``open``, ``high``, ``low``, ``close``, ``volume``, ``adj_factor``, ``suspended``) and
            ``membership`` (``universe``, ``symbol``, ``start``, ``end``), and perhaps ``delistings`` (``symbol``).
        exchange: the market identifier code (ISO 10383) of the exchange whose sessions its days should be, or ``24/7``.
            Where the library of calendars is not installed, rules that ask for sessions say nothing.

    Raises:
        SettingError: there is no calendar of that exchange.
    """
    known, missing = None, "no exchange is named"
    if exchange is not None:
        [(first, last)] = con.execute("SELECT CAST(min(date) AS DATE), CAST(max(date) AS DATE) FROM bars").fetchall()
        try:
            known = sessions(exchange, first, last)
        except LibraryMissingError as error:
            missing = str(error)
    try:
        intraday = lay_out(con)
        if known is not None:
            _lay_out_sessions(con, known)
        return _judge(con, _lacks(missing if known is None else None, intraday=intraday))
    finally:
        clear(con)


def _lacks(missing: str | None, *, intraday: bool) -> dict[Needs | None, str]:
    """What rules may need and is not there, and why, ``missing`` being why no sessions are known."""
    lacks: dict[Needs | None, str] = {}
    if missing is not None:
        lacks["exchange"] = lacks["hours"] = missing
    elif not intraday:
        lacks["hours"] = "bars are of a day"
    return lacks


def _judge(con: duckdb.DuckDBPyConnection, lacks: dict[Needs | None, str]) -> Quality:
    found: list[Finding] = []
    unsaid, more = {}, {}
    for rule in RULES:
        if rule.needs in lacks:
            unsaid[rule.name] = lacks[rule.needs]
            continue
        rows, count = _shifted(con) if rule.query is None else _broken(con, rule.query)
        if rows is None:
            unsaid[rule.name] = "too few days or symbols"
            continue
        found += [Finding(rule.name, rule.severity, *row) for row in rows]
        if count > len(rows):
            more[rule.name] = count - len(rows)
    return Quality(tuple(found), more, unsaid)


def _broken(con: duckdb.DuckDBPyConnection, query: str) -> tuple[list[Row], int]:
    """The first bars that break a rule, and how many do."""
    con.execute(f"CREATE OR REPLACE TABLE look.broken AS SELECT symbol, date, detail FROM ({query})")  # noqa: S608
    rows = con.execute("FROM look.broken ORDER BY ALL LIMIT ?", [MOST]).fetchall()
    [(count,)] = con.execute("SELECT count(*) FROM look.broken").fetchall()
    return rows, count


def _shifted(con: duckdb.DuckDBPyConnection) -> tuple[list[Row] | None, int]:
    market = to_frame(con.sql(_MARKET))
    at_once = max(_BATCH // max(len(market), 1), 1)
    symbols = [symbol for (symbol,) in con.execute("SELECT symbol FROM look.symbols ORDER BY lane").fetchall()]
    found = shifts(market, _batches(con, symbols, at_once), len(symbols))
    if found is None:
        return None, 0
    rows = []
    for one in found:
        [(first,)] = con.execute("SELECT min(date) FROM look.traded WHERE symbol = ?", [one.symbol]).fetchall()
        when = f"{abs(one.days)} days {'later' if one.days > 0 else 'earlier'}"
        figures = f"rank correlation {one.correlation:.2f}, as dated {one.as_dated:.2f}"
        rows.append((one.symbol, first, f"as the market does {when} ({figures})"))
    return rows, len(rows)


def _batches(con: duckdb.DuckDBPyConnection, symbols: list[str], at_once: int) -> Iterator[Batch]:
    for first in range(0, len(symbols), at_once):
        some = symbols[first : first + at_once]
        yield Batch(some, to_frame(con.sql(_OF_SYMBOLS, params=[first, first, first + len(some) - 1])))


def _lay_out_sessions(con: duckdb.DuckDBPyConnection, known: Sessions) -> None:
    con.execute(
        "CREATE TABLE look.sessions AS SELECT unnest($1::DATE[]) AS day, unnest($2::TIMESTAMP[]) AS opens, "
        "unnest($3::TIMESTAMP[]) AS closes, unnest($4::TIMESTAMP[]) AS pauses, unnest($5::TIMESTAMP[]) AS resumes",
        [known.days, known.opens, known.closes, known.pauses, known.resumes],
    )
    con.execute("SET VARIABLE known_from = ?", [known.known_from])
    con.execute("SET VARIABLE known_to = ?", [known.known_to])

"""Staging: bars on their way to becoming a snapshot.

1. ``stage_bars`` loads them into the table ``bars`` and refuses what cannot be right.
2. ``mark_limited`` finds those that a rule set lets nobody trade.
3. ``settle`` decides the split dates; with the names of fields and universes that are known by the end of valid they
   are the version's settings.
"""

import re
from dataclasses import dataclass
from datetime import date
from typing import Final

import duckdb

from factors.columns import PRICES
from factors.errors import DataError, SettingError
from storage.snapshot import ALL, quoted
from storage.trading_rules import RuleSet
from storage.watch import Progress, watched

REQUIRED: Final = ("open", "high", "low", "close", "volume")
FIELD: Final = re.compile(r"[a-z_][a-z0-9_]*")
RESERVED: Final = {"date", "symbol", "adj_factor", "suspended", "limited", "member", "sector", "return"}
TRUTH: Final = "BOOLEAN"  # the type of a column that may be a field, of 0 and 1
RECENT: Final = 30  # days that the close before may be old for a limit to be known

_NOTHING: Final = 1e-6  # of a tick: what a half may lack of itself in binary digits, and is rounded up all the same
_NUMERIC = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL.*)")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a version is besides its rows; dates as in :class:`storage.snapshot.Snapshot`."""

    fields: tuple[str, ...]
    universes: tuple[str, ...]
    train_end: date
    valid_end: date
    holdout: bool
    synthetic: bool
    trading_rules: str


def numeric(kind: str) -> bool:
    """Whether values of that DuckDB type are numbers."""
    return _NUMERIC.fullmatch(kind) is not None


def typed(con: duckdb.DuckDBPyConnection, view: str) -> dict[str, str]:
    """The DuckDB type of each column of a view."""
    opened = con.table(view)
    return dict(zip(opened.columns, map(str, opened.types), strict=True))


def stage_bars(con: duckdb.DuckDBPyConnection, view: str, progress: Progress) -> int:
    """Load a view of bars into the table ``bars``, sorted by date and symbol; return how many repeated ones went.

    Symbols become the instruments that they stood for, by the table ``tickers``. Bars that are there more than once
    count once. ``date`` is a DATE, or a TIMESTAMP where a symbol has several bars on a day.

    Raises:
        DataError: the rows cannot be a market.
    """
    kinds = typed(con, view)
    extras = [
        name
        for name in sorted(kinds)
        if name not in {*REQUIRED, *RESERVED}
        and FIELD.fullmatch(name)
        and (numeric(kinds[name]) or kinds[name] == TRUTH)
    ]
    suspended = "coalesce(suspended, false)" if "suspended" in kinds else "false"

    def finite(name: str) -> str:
        column = f"CAST({quoted(name)} AS DOUBLE)"
        # Vendors write 0 for the price of a suspended day; taken at its word it would be a total loss.
        missing = f"{suspended} AND {column} <= 0" if name in PRICES else "false"
        return f"CASE WHEN isfinite({column}) AND NOT ({missing}) THEN {column} END AS {quoted(name)}"

    factor = finite("adj_factor") if "adj_factor" in kinds else "1.0::DOUBLE AS adj_factor"
    moment = "DATE" if kinds["date"] == "DATE" else "TIMESTAMP"
    renamed = con.execute("FROM tickers LIMIT 1").fetchall()
    source = f"(SELECT source.* {_INSTRUMENT} FROM {view} AS source {_STOOD_FOR})" if renamed else view  # noqa: S608
    watched(
        con,
        f"""
        CREATE TABLE bars AS
        SELECT CAST(date AS {moment}) AS date, CAST(symbol AS VARCHAR) AS symbol,
            {", ".join(map(finite, [*REQUIRED, *extras]))}, {factor}, {suspended} AS suspended
        FROM {source} ORDER BY 1, 2
        """,  # noqa: S608 - only quoted column names are spliced in
        progress,
    )
    repeated = _drop_repeated(con)
    if moment == "TIMESTAMP":
        _settle_moment(con)
    _check_bars(con)
    return repeated


_INSTRUMENT: Final = "REPLACE (coalesce(tickers.instrument, source.symbol) AS symbol)"
_STOOD_FOR: Final = """
    LEFT JOIN tickers ON tickers.symbol = source.symbol
    AND (tickers.start IS NULL OR tickers.start <= source.date)
    AND (tickers."end" IS NULL OR source.date < tickers."end")
"""


def check_factors(con: duckdb.DuckDBPyConnection, before: str) -> None:
    """Refuse bars whose factors have another beginning than those ``before``, in SQL.

    No rule would tell of that where the bars are of a hold-out, at which no rule looks.

    Raises:
        DataError: a factor jumps though the price as it was traded does not move.
    """

    def at(pick: str) -> str:
        taken = ", ".join(f"{pick}({name}, date) AS {name}" for name in ("date", "close", "adj_factor"))
        return f"SELECT symbol, {taken}"

    traded = "WHERE NOT suspended AND close > 0 GROUP BY symbol"
    refuse(
        con,
        "{count} instruments go on with another adj_factor though their price does not move, the first is {symbol} on "
        "{date}; import all of it again, or accept adjustment",
        f"""
        SELECT symbol, new.date
        FROM ({at("arg_min")} FROM bars {traded}) AS new JOIN ({at("arg_max")} {before} {traded}) AS old USING (symbol)
        WHERE new.adj_factor <> old.adj_factor
            AND abs(ln(new.close * new.adj_factor / old.close / old.adj_factor)) > abs(ln(new.close / old.close)) + 0.05
        """,  # noqa: S608 - SQL of ours
    )


def mark_limited(con: duckdb.DuckDBPyConnection, rules: RuleSet) -> None:
    """Give bars the column ``limited``: they open or close at the price limit of a rule set, where it has limits.

    The tables ``instruments`` and ``calendar`` tell which instruments are new; of those ``bars`` has all of a month.

    A limit is measured from the close of the instrument's day before, adjusted for rights as the exchange does; both
    are rounded to the tick, halves up. Without a close of the last :data:`RECENT` days none is known. A price that is
    beyond it by more than a tenth of the band shows that there was none, as on first days and after reorganizations, or
    that the factor is wrong.
    """
    if not rules.bands:
        return
    columns = con.table("bars").columns
    treated = "coalesce(any_value(st), 0) <> 0" if "st" in columns else "false"
    widths = " ".join(f"WHEN {band.where} THEN {band.width or 'NULL'}" for band in rules.bands)
    half = rules.tick / 2
    con.execute("ALTER TABLE bars ADD COLUMN limited BOOLEAN DEFAULT false")
    con.execute(
        f"""
        UPDATE bars SET limited = true FROM (
            SELECT symbol, day, before * width / 10 * {rules.tick} AS slack,
                round(before * (1 - width) + {_NOTHING}) * {rules.tick} AS floor,
                round(before * (1 + width) + {_NOTHING}) * {rules.tick} AS ceiling
            FROM (
                SELECT symbol, day, CASE WHEN day - listed <= {RECENT} THEN row_number() OVER days END AS age,
                    CASE {widths} END AS width,
                    CASE WHEN day - lag(day) OVER days <= {RECENT} THEN
                        round(lag(close) OVER days * lag(adj_factor) OVER days / adj_factor / {rules.tick} + {_NOTHING})
                    END AS before
                FROM (
                    SELECT symbol, CAST(date AS DATE) AS day, arg_max(close, date) AS close,
                        arg_max(adj_factor, date) AS adj_factor, {treated} AS st
                    FROM bars WHERE close IS NOT NULL GROUP BY ALL
                ) LEFT JOIN (
                    SELECT symbol, first_date AS listed FROM instruments
                    WHERE first_date > (SELECT CAST(min(date) AS DATE) FROM calendar)
                ) USING (symbol)
                WINDOW days AS (PARTITION BY symbol ORDER BY day)
            ) WHERE before IS NOT NULL
        ) AS band
        WHERE bars.symbol = band.symbol AND CAST(bars.date AS DATE) = band.day
            AND (
                greatest(open, close) BETWEEN ceiling - {half} AND ceiling + slack + {half}
                OR least(open, close) BETWEEN floor - slack - {half} AND floor + {half}
            )
        """  # noqa: S608 - numbers and conditions of the rule set
    )


def settle(
    con: duckdb.DuckDBPyConnection, train_end: date | None, valid_end: date | None, holdout: bool
) -> tuple[date, date]:
    """The last days of train and of valid, checked so that each split has at least one date.

    Without a hold-out valid ends with the data, and train ends by default at 70 % of the dates.

    Raises:
        SettingError: a date is missing, or given where it has no meaning.
        DataError: the data leave a split empty.
    """
    calendar: list[date] = [
        day for (day,) in con.execute("SELECT DISTINCT CAST(date AS DATE) AS day FROM bars ORDER BY day").fetchall()
    ]
    first, last = calendar[0], calendar[-1]
    span = f"the data run from {first} to {last}, {len(calendar)} dates"
    if holdout:
        if train_end is None or valid_end is None:
            raise SettingError(f"a market with a hold-out needs the last day of train and of valid: {span}")
        valid = [day for day in calendar if train_end < day <= valid_end]
        if not (first <= train_end < valid_end < last and valid):
            raise DataError(f"train to {train_end} and valid to {valid_end} leave a split without a date: {span}")
        return train_end, valid_end
    if valid_end is not None:
        raise SettingError(f"without a hold-out valid ends with the data; give no last day of valid: {span}")
    if train_end is None:
        train_end = calendar[max(len(calendar) * 7 // 10, 1) - 1]
    if not first <= train_end < last:
        raise DataError(f"train to {train_end} leaves a split without a date: {span}")
    return train_end, last


def known_fields(con: duckdb.DuckDBPyConnection, fields: tuple[str, ...], day: date) -> tuple[str, ...]:
    """The fields that have a value by that day; other columns are dropped."""
    extras = [name for name in fields if name not in REQUIRED]
    counted = ", ".join(f"count({quoted(name)})" for name in ["close", *extras])
    [(_, *counts)] = con.execute(
        f"SELECT {counted} FROM bars WHERE date < CAST(? AS DATE) + 1",  # noqa: S608
        [day],
    ).fetchall()
    later = [name for name, count in zip(extras, counts, strict=True) if count == 0]
    for name in later:
        con.execute(f"ALTER TABLE bars DROP COLUMN {quoted(name)}")
    return tuple(name for name in fields if name not in later)


def known_universes(con: duckdb.DuckDBPyConnection, universes: tuple[str, ...], day: date) -> tuple[str, ...]:
    """The universes that have a member by that day."""
    begun = "SELECT DISTINCT universe FROM membership WHERE start IS NULL OR start <= ?"
    known = {ALL, *(name for (name,) in con.execute(begun, [day]).fetchall())}
    return tuple(name for name in universes if name in known)


# The table is sorted, so that what is there twice is neighbours: a look at the row before takes no memory, while groups
# would be as many as there are bars.
_TWICE: Final = """
    SELECT DISTINCT date, symbol FROM (
        SELECT date, symbol, date IS NOT DISTINCT FROM lag(date) OVER ()
            AND symbol IS NOT DISTINCT FROM lag(symbol) OVER () AND row_number() OVER () > 1 AS again
        FROM bars
    ) WHERE again
"""


def _drop_repeated(con: duckdb.DuckDBPyConnection) -> int:
    """Leave one of each bar that is there more than once with the same values; how many went."""
    columns = ", ".join(map(quoted, con.table("bars").columns))
    [(count,)] = con.execute(
        f"""
        DELETE FROM bars WHERE rowid IN (
            SELECT rowid FROM (
                SELECT rowid, row_number() OVER (PARTITION BY {columns} ORDER BY rowid) AS place
                FROM bars SEMI JOIN ({_TWICE}) AS twice USING (date, symbol)
            ) WHERE place > 1
        )
        """  # noqa: S608 - only quoted column names are spliced in
    ).fetchall()
    return int(count)


def _settle_moment(con: duckdb.DuckDBPyConnection) -> None:
    """Let midnights be dates, where all are."""
    [(timed,)] = con.execute("SELECT count(*) FROM bars WHERE CAST(date AS DATE) <> date").fetchall()
    if not timed:
        con.execute("ALTER TABLE bars ALTER date TYPE DATE")
        return
    several = "SELECT 1 FROM bars GROUP BY symbol, CAST(date AS DATE) HAVING count(*) > 1 LIMIT 1"
    if not con.execute(several).fetchall():
        refuse(
            con,
            "{count} bars have a time of day though no symbol has two bars on a day, the first is {date} {symbol}; "
            "expected dates like 2020-12-31",
            "SELECT date, symbol FROM bars WHERE CAST(date AS DATE) <> date",
        )


def _check_bars(con: duckdb.DuckDBPyConnection) -> None:
    if not con.execute("FROM bars LIMIT 1").fetchall():
        raise DataError("no bars: expected at least one row")
    refuse(con, "{count} rows have no symbol", "SELECT symbol FROM bars WHERE symbol IS NULL")
    refuse(
        con,
        "{count} rows have no date, the first is of {symbol}",
        "SELECT symbol FROM bars WHERE date IS NULL",
    )
    refuse(
        con,
        "{count} pairs of date and symbol occur more than once, the first is {date} {symbol}",
        _TWICE,
    )
    refuse(
        con,
        "{count} rows have an adj_factor that is missing or not positive, the first is {date} {symbol}",
        "SELECT date, symbol FROM bars WHERE adj_factor IS NULL OR adj_factor <= 0",
    )
    refuse(
        con,
        "{count} rows that are not suspended have a close that is not positive, the first is {date} {symbol}",
        "SELECT date, symbol FROM bars WHERE close <= 0",
    )
    refuse(
        con,
        "{count} rows have a volume below zero, the first is {date} {symbol}",
        "SELECT date, symbol FROM bars WHERE volume < 0",
    )


def refuse(con: duckdb.DuckDBPyConnection, message: str, query: str) -> None:
    """Raise a DataError with the number of rows that the query finds, and with its first row's columns."""
    found = con.sql(query)
    example = found.order("ALL").limit(1).fetchall()
    if example:
        (count,) = found.count("*").fetchall()[0]
        raise DataError(message.format(count=count, **dict(zip(found.columns, example[0], strict=True))))

"""Staging: bars, membership and sectors on their way to becoming a snapshot.

1. ``stage`` loads the three streams into an in-memory database and refuses what cannot be right.
2. ``settle`` decides the split dates; with the names of fields and universes that are known by the end of valid
   (``known_by``) they are the version's settings.
3. ``content_hash`` turns settings and rows into the version's id, whatever the order of rows and columns was.
4. ``write`` lays the rows down in two files, in-sample and hold-out.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import duckdb

from factors.columns import PRICES
from factors.errors import DataError, SettingError
from factors.frame import ArrowStream, PlainStream
from storage.snapshot import ALL, quoted

REQUIRED = ("open", "high", "low", "close", "volume")
FIELD = re.compile(r"[a-z_][a-z0-9_]*")
RESERVED = {"date", "symbol", "adj_factor", "suspended", "member", "sector", "return"}

_FORMAT = 2
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


def numeric(kind: str) -> bool:
    """Whether values of that DuckDB type are numbers."""
    return _NUMERIC.fullmatch(kind) is not None


def stage(
    con: duckdb.DuckDBPyConnection,
    bars: ArrowStream,
    membership: ArrowStream | None,
    sectors: ArrowStream | None,
) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    """Load the tables ``bars``, ``membership`` and ``sectors``; return the fields, some empty, and the universes.

    Bars that are there more than once count once; returned as well is how many were left out.

    Raises:
        DataError: the rows cannot be a market.
    """
    fields, repeated = _stage_bars(con, bars)
    universes = _stage_membership(con, membership)
    con.execute("CREATE TABLE sectors (symbol VARCHAR, sector VARCHAR)")
    if sectors is not None:
        con.register("source", PlainStream(sectors))
        con.execute("INSERT INTO sectors SELECT DISTINCT symbol, sector FROM source WHERE sector IS NOT NULL")
        con.unregister("source")
        _refuse(
            con,
            "{count} symbols have more than one sector, the first is {symbol}",
            "SELECT symbol FROM sectors GROUP BY symbol HAVING count(*) > 1",
        )
    return fields, universes, repeated


def settle(
    con: duckdb.DuckDBPyConnection, train_end: date | None, valid_end: date | None, holdout: bool
) -> tuple[date, date]:
    """The last days of train and of valid, checked so that each split has at least one date.

    Without a hold-out valid ends with the data, and train ends by default at 70 % of the dates.

    Raises:
        SettingError: a date is missing, or given where it has no meaning.
        DataError: the data leave a split empty.
    """
    calendar: list[date] = [day for (day,) in con.execute("SELECT DISTINCT date FROM bars ORDER BY date").fetchall()]
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


def known_by(
    con: duckdb.DuckDBPyConnection, fields: tuple[str, ...], universes: tuple[str, ...], day: date
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The fields that have a value, and the universes that have a member, by that day; other columns are dropped."""
    extras = [name for name in fields if name not in REQUIRED]
    counted = ", ".join(f"count({quoted(name)})" for name in ["close", *extras])
    [(_, *counts)] = con.execute(f"SELECT {counted} FROM bars WHERE date <= ?", [day]).fetchall()  # noqa: S608
    later = [name for name, count in zip(extras, counts, strict=True) if count == 0]
    for name in later:
        con.execute(f"ALTER TABLE bars DROP COLUMN {quoted(name)}")
    begun = "SELECT DISTINCT universe FROM membership WHERE start IS NULL OR start <= ?"
    known = {ALL, *(name for (name,) in con.execute(begun, [day]).fetchall())}
    return (
        tuple(name for name in fields if name not in later),
        tuple(name for name in universes if name in known),
    )


def content_hash(con: duckdb.DuckDBPyConnection, settings: Settings) -> str:
    """Sixteen hexadecimal digits that change with any setting and with the last bit of any value."""
    digest = hashlib.sha256(json.dumps([_FORMAT, asdict(settings)], default=str).encode())
    for rows in (
        "SELECT DISTINCT symbol FROM bars ORDER BY ALL",
        "SELECT DISTINCT CAST(COLUMNS(*) AS VARCHAR) FROM membership ORDER BY ALL",
        "FROM sectors ORDER BY ALL",
    ):
        digest.update(json.dumps(con.execute(rows).fetchall()).encode())
    con.execute("CREATE TYPE symbols AS ENUM (SELECT DISTINCT symbol FROM bars ORDER BY symbol)")
    columns = [
        "CAST(date - DATE '1970-01-01' AS INTEGER)",
        "CAST(enum_code(CAST(symbol AS symbols)) AS INTEGER)",
        *(f"coalesce({quoted(name)}, CAST('nan' AS DOUBLE))" for name in (*settings.fields, "adj_factor")),
        "suspended",
    ]
    # A table is read in the order it was filled, so the bytes of the columns line up. Hashing rows as text
    # would be ten times slower.
    for column in columns:
        digest.update(con.sql(f"SELECT {column} AS cells FROM bars").fetchnumpy()["cells"].tobytes())  # noqa: S608
    return digest.hexdigest()[:16]


def write(con: duckdb.DuckDBPyConnection, version: Path, settings: Settings) -> None:
    """Create ``insample.duckdb`` and, with a hold-out, ``holdout.duckdb`` in the folder ``version``."""
    cut = [settings.valid_end]
    # DuckDB writes whole blocks, and what its compressed segments leave unused holds whatever memory held before:
    # rows of the hold-out.
    con.execute("SET force_compression = 'uncompressed'")
    con.execute("ATTACH ? AS part", [str(version / "insample.duckdb")])
    con.execute("CREATE TABLE part.bars AS FROM bars WHERE date <= ?", cut)
    con.execute(
        """
        CREATE TABLE part.membership AS
        SELECT universe, symbol, start, CASE WHEN "end" <= $1 THEN "end" END AS "end"
        FROM membership WHERE start IS NULL OR start <= $1 ORDER BY ALL
        """,
        cut,
    )
    con.execute("CREATE TABLE part.sectors AS FROM sectors SEMI JOIN part.bars USING (symbol) ORDER BY symbol")
    con.execute(
        """
        CREATE TABLE part.meta AS
        SELECT $1::DATE AS train_end, $2::DATE AS valid_end, min(date) AS first_date, max(date) AS last_date,
            $3::BOOLEAN AS has_holdout, $4::VARCHAR[] AS fields, $5::VARCHAR[] AS universes,
            $6::BOOLEAN AS synthetic, count(DISTINCT symbol) AS instruments, count(*) AS rows
        FROM part.bars
        """,
        [
            settings.train_end,
            settings.valid_end,
            settings.holdout,
            list(settings.fields),
            list(settings.universes),
            settings.synthetic,
        ],
    )
    con.execute("DETACH part")
    con.execute("SET force_compression = 'auto'")
    if settings.holdout:
        con.execute("ATTACH ? AS part", [str(version / "holdout.duckdb")])
        con.execute("CREATE TABLE part.bars AS FROM bars WHERE date > ?", cut)
        con.execute(
            'CREATE TABLE part.membership AS FROM membership WHERE "end" IS NULL OR "end" > ? ORDER BY ALL',
            cut,
        )
        con.execute("CREATE TABLE part.sectors AS FROM sectors ORDER BY symbol")
        con.execute("DETACH part")


def _stage_bars(con: duckdb.DuckDBPyConnection, bars: ArrowStream) -> tuple[tuple[str, ...], int]:
    con.register("source", PlainStream(bars))
    source = con.table("source")
    kinds = dict(zip(source.columns, map(str, source.types), strict=True))
    extras = [
        name
        for name in sorted(kinds)
        if name not in {*REQUIRED, *RESERVED} and FIELD.fullmatch(name) and numeric(kinds[name])
    ]
    suspended = "coalesce(suspended, false)" if "suspended" in kinds else "false"

    def finite(name: str) -> str:
        column = f"CAST({quoted(name)} AS DOUBLE)"
        # Vendors write 0 for the price of a suspended day; taken at its word it would be a total loss.
        missing = f"{suspended} AND {column} <= 0" if name in PRICES else "false"
        return f"CASE WHEN isfinite({column}) AND NOT ({missing}) THEN {column} END AS {quoted(name)}"

    factor = finite("adj_factor") if "adj_factor" in kinds else "1.0::DOUBLE AS adj_factor"
    con.execute(
        f"""
        CREATE TABLE bars AS
        SELECT CAST(date AS DATE) AS date, CAST(symbol AS VARCHAR) AS symbol,
            {", ".join(map(finite, [*REQUIRED, *extras]))}, {factor}, {suspended} AS suspended
        FROM source ORDER BY 1, 2
        """  # noqa: S608 - only quoted column names are spliced in
    )
    con.unregister("source")
    repeated = _drop_repeated(con)
    _check_bars(con)
    return (*REQUIRED, *extras), repeated


def _drop_repeated(con: duckdb.DuckDBPyConnection) -> int:
    """Leave one of each bar that is there more than once with the same values; how many went."""
    columns = ", ".join(map(quoted, con.table("bars").columns))
    twice = "SELECT date, symbol FROM bars GROUP BY ALL HAVING count(*) > 1"
    [(count,)] = con.execute(
        f"""
        DELETE FROM bars WHERE rowid IN (
            SELECT rowid FROM (
                SELECT rowid, row_number() OVER (PARTITION BY {columns} ORDER BY rowid) AS place
                FROM bars SEMI JOIN ({twice}) AS twice USING (date, symbol)
            ) WHERE place > 1
        )
        """  # noqa: S608 - only quoted column names are spliced in
    ).fetchall()
    return int(count)


def _check_bars(con: duckdb.DuckDBPyConnection) -> None:
    if not con.execute("FROM bars LIMIT 1").fetchall():
        raise DataError("no bars: expected at least one row")
    _refuse(con, "{count} rows have no symbol", "SELECT symbol FROM bars WHERE symbol IS NULL")
    _refuse(
        con,
        "{count} rows have no date, the first is of {symbol}",
        "SELECT symbol FROM bars WHERE date IS NULL",
    )
    _refuse(
        con,
        "{count} pairs of date and symbol occur more than once, the first is {date} {symbol}",
        "SELECT date, symbol FROM bars GROUP BY date, symbol HAVING count(*) > 1",
    )
    _refuse(
        con,
        "{count} rows have an adj_factor that is missing or not positive, the first is {date} {symbol}",
        "SELECT date, symbol FROM bars WHERE adj_factor IS NULL OR adj_factor <= 0",
    )
    _refuse(
        con,
        "{count} rows that are not suspended have a close that is not positive, the first is {date} {symbol}",
        "SELECT date, symbol FROM bars WHERE close <= 0",
    )


def _stage_membership(con: duckdb.DuckDBPyConnection, membership: ArrowStream | None) -> tuple[str, ...]:
    con.execute('CREATE TABLE membership (universe VARCHAR, symbol VARCHAR, start DATE, "end" DATE)')
    if membership is None:
        return (ALL,)
    con.register("source", PlainStream(membership))
    source = con.table("source")
    kinds = dict(zip(source.columns, map(str, source.types), strict=True))
    universe = """coalesce("index", 'members')""" if "index" in kinds else "'members'"
    # A stream may leave a column of nothing but nulls without a type, and such columns cannot be read.
    start, end = ("NULL" if kinds[name] == '"NULL"' else quoted(name) for name in ("start", "end"))
    con.execute(f"INSERT INTO membership SELECT {universe}, symbol, {start}, {end} FROM source")  # noqa: S608
    con.unregister("source")
    _refuse(
        con,
        "{count} rows of the membership have no symbol",
        "SELECT symbol FROM membership WHERE symbol IS NULL",
    )
    universes = con.execute("SELECT universe FROM membership GROUP BY universe ORDER BY min(rowid)").fetchall()
    names = tuple(name for (name,) in universes)
    if ALL in names:
        raise DataError(f"the membership has an index named {ALL!r}, which is the name of the whole market; rename it")
    if not con.execute("FROM membership SEMI JOIN bars USING (symbol) LIMIT 1").fetchall():
        raise DataError("no symbol of the membership has a bar; expected symbols spelled as in the bars")
    return (*names, ALL)


def _refuse(con: duckdb.DuckDBPyConnection, message: str, query: str) -> None:
    """Raise with the number of rows that the query finds, and with its first row's columns."""
    found = con.sql(query)
    example = found.order("ALL").limit(1).fetchall()
    if example:
        (count,) = found.count("*").fetchall()[0]
        raise DataError(message.format(count=count, **dict(zip(found.columns, example[0], strict=True))))

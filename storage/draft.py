"""Draft: a version of a market on its way, from views of its sources to two sides of files.

The id of a version is a hash of its settings, of its reference data and of the digest of each day, so that the same
content has the same id whatever the order of rows and columns was, and whether it came at once or day by day.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Final

import duckdb

from factors.errors import DataError
from storage.parts import Day, Part, staged_days, write_parts
from storage.reference import (
    EVER,
    SIDES,
    TABLES,
    TICKERS,
    check_reference,
    stage_reference,
    stage_tickers,
    universes_of,
    whole,
)
from storage.snapshot import LIMITS, Snapshot, insert_rows, literal, quoted, reading
from storage.staging import (
    RECENT,
    REQUIRED,
    RESERVED,
    Settings,
    check_factors,
    known_fields,
    known_universes,
    mark_limited,
    refuse,
    settle,
    stage_bars,
    typed,
)
from storage.trading_rules import NO_RULES, RuleSet, rule_set
from storage.watch import HASH, WRITE, Progress, Tell

_FORMAT: Final = 3
BARS: Final = "bars"


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a market is published; see :func:`storage.markets.publish`."""

    train_end: date | None = None
    valid_end: date | None = None
    holdout: bool = True
    synthetic: bool = False
    rules: str = NO_RULES


@dataclass(frozen=True, slots=True)
class Draft:
    """What a version is to be; its tables are staged.

    Attributes:
        settings: of the version.
        days: of bars, in order.
        known: parts of the version before, which may hold some of them.
        id: of the version.
    """

    settings: Settings
    days: tuple[Day, ...]
    known: tuple[Part, ...]
    id: str


def draft(
    con: duckdb.DuckDBPyConnection,
    views: Mapping[str, str],
    terms: Terms,
    base: Snapshot | None,
    tell: Tell,
    progress: Progress,
) -> Draft:
    """Stage what the views hold, and describe the version that it is to be.

    Args:
        con: a connection of its own.
        views: names of views by what they hold: ``bars``, ``tickers`` and tables of reference data.
        terms: of the publication.
        base: the current version, whose files may be shared.
        tell: takes what is worth saying, a line at a time.
        progress: takes a stage, how much of it is done, and of how much.

    Raises:
        SettingError: the terms cannot be.
        DataError: the rows cannot be a market.
    """
    rules = rule_set(terms.rules)
    _stage(con, views, tell, progress)
    train_end, valid_end = settle(con, terms.train_end, terms.valid_end, terms.holdout)
    fields = known_fields(con, _fields(con), valid_end)
    con.execute(f"CREATE TABLE instruments AS {_INSTRUMENTS}")
    con.execute("CREATE TABLE calendar AS SELECT DISTINCT date FROM bars ORDER BY date")
    _mark(con, rules, tell)
    stage_reference(con, views, {})
    check_reference(con)
    settings = Settings(
        fields,
        known_universes(con, universes_of(con), valid_end),
        train_end,
        valid_end,
        terms.holdout,
        terms.synthetic,
        terms.rules,
    )
    days = _days(con, progress)
    return Draft(settings, tuple(days), () if base is None else _parts(base), _id(con, settings, days))


def draft_append(
    con: duckdb.DuckDBPyConnection,
    views: Mapping[str, str],
    base: Snapshot,
    accept: Collection[str],
    tell: Tell,
    progress: Progress,
) -> Draft | None:
    """As :func:`draft`, of days that follow those of a version, of whose bars no more is read than the last days.

    Fields, splits and rules are those of the version before; valid ends with the data where nothing is held out.
    Bars of days that the version has must be as they are there, and are left out. ``None`` where no day is new. Factors
    must go on from those of the version, unless a jump is what to ``accept``.

    Raises:
        DataError: the rows cannot follow.
    """
    parts = _parts(base)
    last = max(day.date for part in parts for day in part.days)
    for side in _sides(base):
        con.execute(f"ATTACH {literal(base.path / f'{side}.duckdb')} AS {side} (READ_ONLY)")
    _stage(con, views, tell, progress)
    if typed(con, "bars")["date"] != typed(con, "insample.calendar")["date"]:
        raise DataError("the bars are of days where those of the market have a time of day, or the other way round")
    _align(con, base.fields, tell)
    _leave_out(con, base, parts, last, tell)
    if not con.execute("FROM bars LIMIT 1").fetchall():
        return None
    if "adjustment" not in accept:
        check_factors(con, _since(parts, last - timedelta(days=RECENT)))
    kept = {name: _kept(con, base, name) for name in TABLES}
    for name in ("instruments", "calendar"):
        con.execute(f"CREATE TEMP VIEW before_{name} AS {_union(base, name)}")
    con.execute(
        f"CREATE TABLE instruments AS FROM ({_INSTRUMENTS}) ANTI JOIN before_instruments USING (symbol) "
        "UNION ALL FROM before_instruments"
    )
    _tell_new(con, tell)
    con.execute("CREATE TABLE calendar AS SELECT DISTINCT date FROM bars UNION ALL FROM before_calendar ORDER BY date")
    _mark_following(con, base, parts, last, tell)
    stage_reference(con, views, kept)
    check_reference(con, _bars_after_delistings(con, parts) if "delistings" in views else BARS)
    [(newest,)] = con.execute("SELECT CAST(max(date) AS DATE) FROM bars").fetchall()
    valid_end = base.valid_end if base.has_holdout else newest
    settings = Settings(
        base.fields,
        known_universes(con, universes_of(con), valid_end),
        base.train_end,
        valid_end,
        base.has_holdout,
        base.synthetic,
        base.trading_rules,
    )
    days = [*sorted((day for part in parts for day in part.days), key=lambda day: day.date), *_days(con, progress)]
    return Draft(settings, tuple(days), parts, _id(con, settings, days))


def write(con: duckdb.DuckDBPyConnection, made: Draft, version: Path, progress: Progress) -> None:
    """Lay a draft down in the folder ``version``: for each side a folder of bars, and a database of the rest."""
    settings = made.settings
    cut = settings.valid_end if settings.holdout else EVER
    total = sum(day.rows for day in made.days)
    # DuckDB writes whole blocks, and what its compressed segments leave unused holds whatever memory held before:
    # rows of the hold-out.
    con.execute("SET force_compression = 'uncompressed'")
    done = 0
    for side in SIDES if settings.holdout else SIDES[:1]:
        days = [day for day in made.days if (day.date <= cut) == (side == SIDES[0])]
        parts = write_parts(con, version / side, days, made.known, partial(_report, progress, done, total))
        done += sum(day.rows for day in days)
        con.execute("ATTACH ? AS part", [str(version / f"{side}.duckdb")])
        _write_tables(con, side, cut, parts)
        if side == SIDES[0]:
            _write_meta(con, settings, days)
        con.execute("DETACH part")


def _report(progress: Progress, before: int, total: int, rows: int) -> None:
    progress(WRITE, before + rows, total)


def _stage(con: duckdb.DuckDBPyConnection, views: Mapping[str, str], tell: Tell, progress: Progress) -> None:
    stage_tickers(con, views.get(TICKERS))
    repeated = stage_bars(con, views[BARS], progress)
    if repeated:
        tell(f"{repeated} rows are there more than once, and count once")


_INSTRUMENTS: Final = """
    SELECT symbol, CAST(min(date) AS DATE) AS first_date, arg_min(adj_factor, date) AS adj_factor
    FROM bars GROUP BY symbol
"""


def _fields(con: duckdb.DuckDBPyConnection) -> tuple[str, ...]:
    return tuple(name for name in con.table("bars").columns if name in REQUIRED or name not in RESERVED)


def _days(con: duckdb.DuckDBPyConnection, progress: Progress) -> list[Day]:
    [(rows,)] = con.execute("SELECT count(*) FROM bars").fetchall()
    return staged_days(con, lambda done: progress(HASH, done, rows))


def _parts(version: Snapshot) -> tuple[Part, ...]:
    return tuple(part for side in _sides(version) for part in _parts_of(version.path, side))


def _parts_of(version: Path, side: str) -> list[Part]:
    with duckdb.connect(version / f"{side}.duckdb", read_only=True, config=LIMITS) as con:
        rows = con.execute("SELECT part, date, rows, digest FROM days ORDER BY part, date").fetchall()
    return [
        Part(version / side / f"{name}.parquet", tuple(Day(*day) for _, *day in days))
        for name, days in groupby(rows, key=lambda row: row[0])
    ]


def _sides(version: Snapshot) -> tuple[str, ...]:
    return SIDES if version.has_holdout else SIDES[:1]


def _mark(con: duckdb.DuckDBPyConnection, rules: RuleSet, tell: Tell) -> None:
    if rules.bands and "st" not in con.table("bars").columns:
        tell(f"rules {rules.name}: no column st, so stocks under special treatment have the price limit of their board")
    mark_limited(con, rules)


def _align(con: duckdb.DuckDBPyConnection, fields: tuple[str, ...], tell: Tell) -> None:
    """Give the table of bars the fields of the version before."""
    there = _fields(con)
    for name in there:
        if name not in fields:
            tell(f"left out: column {name}, which the market does not have")
            con.execute(f"ALTER TABLE bars DROP COLUMN {quoted(name)}")
    for name in fields:
        if name not in there:
            tell(f"no column {name}, which the market has: it is empty on these days")
            con.execute(f"ALTER TABLE bars ADD COLUMN {quoted(name)} DOUBLE")


def _tell_new(con: duckdb.DuckDBPyConnection, tell: Tell) -> None:
    """Tell of new instruments: one may be an old one under a symbol for which no ``tickers`` were given."""
    [(count,)] = con.execute("SELECT count(*) FROM instruments ANTI JOIN before_instruments USING (symbol)").fetchall()
    if count:
        tell(f"{count} symbols are new to the market")


def _leave_out(con: duckdb.DuckDBPyConnection, base: Snapshot, parts: tuple[Part, ...], last: date, tell: Tell) -> None:
    """Remove the bars of days that the version has, if they are as they are there."""
    [(first, count)] = con.execute(
        "SELECT CAST(min(date) AS DATE), count(*) FROM bars WHERE date < CAST(? AS DATE) + 1", [last]
    ).fetchall()
    if not count:
        return
    columns = ", ".join(map(quoted, ("date", "symbol", *base.fields, "adj_factor", "suspended")))
    refuse(
        con,
        "{count} bars are not as they are in the market, the first is {date} {symbol}; import all of it again",
        f"SELECT {columns} FROM bars WHERE date < DATE '{last}' + 1 "  # noqa: S608
        f"EXCEPT SELECT {columns} FROM ({_since(parts, first)})",
    )
    con.execute("DELETE FROM bars WHERE date < CAST(? AS DATE) + 1", [last])
    tell(f"{count} bars are in the market already")


def _since(parts: tuple[Part, ...], first: date) -> str:
    """SQL of the bars in the parts that hold this day, or later ones."""
    return reading([part.path for part in parts if part.days[-1].date >= first])


def _mark_following(
    con: duckdb.DuckDBPyConnection, base: Snapshot, parts: tuple[Part, ...], last: date, tell: Tell
) -> None:
    """Mark bars as if all bars before them were there."""
    rules = rule_set(base.trading_rules)
    if not rules.bands:
        return
    [(first,)] = con.execute("SELECT CAST(min(date) AS DATE) FROM bars").fetchall()
    columns = ", ".join(map(quoted, con.table("bars").columns))
    begin = first - timedelta(days=RECENT)
    if begin <= last:
        con.execute(
            f"INSERT INTO bars BY NAME SELECT {columns} FROM ({_since(parts, begin)}) WHERE date >= ?",  # noqa: S608
            [begin],
        )
    _mark(con, rules, tell)
    con.execute("DELETE FROM bars WHERE date < CAST(? AS DATE) + 1", [last])


def _bars_after_delistings(con: duckdb.DuckDBPyConnection, parts: tuple[Part, ...]) -> str:
    """SQL of bars that may come after a delisting, also of days that the version before has."""
    [(first,)] = con.execute("SELECT min(date) FROM delistings").fetchall()
    known = [part for part in parts if first is not None and part.days[-1].date > first]
    before = f" UNION ALL SELECT symbol, date {reading([part.path for part in known])}" if known else ""
    return f"(SELECT symbol, date FROM bars{before})"  # noqa: S608 - our own paths


def _union(base: Snapshot, table: str) -> str:
    return " UNION ALL ".join(f"FROM {side}.{table}" for side in _sides(base))


def _kept(con: duckdb.DuckDBPyConnection, base: Snapshot, table: str) -> str:
    """A view of reference data as it was given for the version before."""
    view = f"before_{table}"
    rows = whole(table) if base.has_holdout else f"FROM insample.{table}"
    renamed = {"membership": 'RENAME (universe AS "index")', "benchmark": 'RENAME (name AS "index")'}.get(table, "")
    if table == "membership":
        order = f"{_sides(base)[-1]}.universes"
        rows = f"SELECT known.* FROM ({rows}) AS known JOIN {order} USING (universe) ORDER BY place"  # noqa: S608
    con.execute(f"CREATE TEMP VIEW {view} AS SELECT * {renamed} FROM ({rows})")  # noqa: S608
    return view


def _id(con: duckdb.DuckDBPyConnection, settings: Settings, days: list[Day]) -> str:
    """Sixteen hexadecimal digits that change with any setting and with the last bit of any value."""
    digest = hashlib.sha256(json.dumps([_FORMAT, asdict(settings), universes_of(con)], default=str).encode())
    for table in TABLES:
        rows = con.execute(f"SELECT DISTINCT CAST(COLUMNS(*) AS VARCHAR) FROM {table} ORDER BY ALL").fetchall()  # noqa: S608
        digest.update(json.dumps(rows).encode())
    digest.update(json.dumps([(day.date.isoformat(), day.digest) for day in days]).encode())
    return digest.hexdigest()[:16]


def _write_tables(con: duckdb.DuckDBPyConnection, side: str, cut: date, parts: list[Part]) -> None:
    """Everything of a side but its bars, in the attached database ``part``."""
    insample = side == SIDES[0]
    within = "<=" if insample else ">"
    con.execute(f"CREATE TABLE part.calendar AS FROM calendar WHERE CAST(date AS DATE) {within} ? ORDER BY date", [cut])
    con.execute(f"CREATE TABLE part.instruments AS FROM instruments WHERE first_date {within} ? ORDER BY symbol", [cut])
    con.execute("CREATE TABLE part.days (part VARCHAR, date DATE, rows BIGINT, digest VARCHAR)")
    rows = [(part.path.stem, day.date, day.rows, day.digest) for part in parts for day in part.days]
    insert_rows(con, "part.days", rows)
    for name, table in TABLES.items():
        query = table.told if insample else table.kept
        con.execute(f"CREATE TABLE part.{name} AS {query} ORDER BY ALL", {"cut": cut})
    if not insample or cut == EVER:  # the order of all of them, which in sample would tell of later ones
        con.execute(
            "CREATE TABLE part.universes AS SELECT universe, min(rowid) AS place FROM membership GROUP BY universe"
        )


def _write_meta(con: duckdb.DuckDBPyConnection, settings: Settings, days: list[Day]) -> None:
    con.execute(
        """
        CREATE TABLE part.meta AS
        SELECT $train_end::DATE AS train_end, $valid_end::DATE AS valid_end, $first_date::DATE AS first_date,
            $last_date::DATE AS last_date, $has_holdout::BOOLEAN AS has_holdout, $fields::VARCHAR[] AS fields,
            $universes::VARCHAR[] AS universes, $synthetic::BOOLEAN AS synthetic,
            $trading_rules::VARCHAR AS trading_rules, []::VARCHAR[] AS accepted, NULL::DOUBLE AS bars_per_year,
            (SELECT count(*) FROM part.instruments) AS instruments, $rows::BIGINT AS rows
        """,
        {
            "train_end": settings.train_end,
            "valid_end": settings.valid_end,
            "first_date": days[0].date,
            "last_date": days[-1].date,
            "has_holdout": settings.holdout,
            "fields": list(settings.fields),
            "universes": list(settings.universes),
            "synthetic": settings.synthetic,
            "trading_rules": settings.trading_rules,
            "rows": sum(day.rows for day in days),
        },
    )

"""Rules: what must not be in bars, or is worth a look, each a query of the tables that :func:`lay_out` makes."""

from dataclasses import dataclass
from typing import Final, Literal

import duckdb

Severity = Literal["error", "warning"]
Needs = Literal["exchange", "hours"]

EVERYBODY: Final = "*"  # in place of a symbol: the market as a whole


@dataclass(frozen=True, slots=True)
class Rule:
    """What must not be, or is worth a look.

    Attributes:
        name: what it is called.
        severity: whether factors would be wrong, or might be.
        says: what it means, in words.
        query: ``symbol``, ``date`` and ``detail`` of each bar that breaks it; ``None`` where it takes more than SQL.
        needs: what must be there for it to say anything: the ``exchange``, or that and bars of less than a day for its
            ``hours``; nothing more than bars where ``None``.
    """

    name: str
    severity: Severity
    says: str
    query: str | None
    needs: Needs | None = None


def lay_out(con: duckdb.DuckDBPyConnection) -> bool:
    """Make the schema ``look``, in memory or spilled to the connection's ``temp_directory``, of its ``bars``.

    * ``days`` and ``symbols`` number what the bars are of, each time a ``row`` and each date a ``number``;
      ``behind`` is how many dates a symbol's last bar is before the market's.
    * ``times`` are those at which a tenth of the symbols that are listed or more have bars: what one has alone is not
      missing from all others.
    * ``delisted`` are the symbols of a table ``delistings``, if there is one.
    * ``moves`` is a row for each bar that was traded, sorted and numbered by symbol once, as that is what takes time:
      all that rules say of a bar and its neighbours is there or follows from it.
    * ``market`` has what the median symbol does at each time. What all symbols do is no fault of one.
    * ``apart`` are the few that move far from it, with how far they moved before and after.
    * ``daily`` is how far each moves in a day, which ``number`` is of, and ``typical`` how far the median symbol does.

    Returns:
        Whether bars are of less than a day.
    """
    con.execute("ATTACH ':memory:' AS look (READ_WRITE)")
    [(kind,)] = con.execute("SELECT typeof(date) FROM bars LIMIT 1").fetchall()
    daily = kind == "DATE"
    con.execute("SET VARIABLE unit = ?", ["days" if daily else "bars"])
    known = con.execute("SELECT count(*) FROM information_schema.tables WHERE table_name = 'delistings'").fetchone()
    delisted = "delistings" if known != (0,) else "(SELECT symbol FROM bars LIMIT 0)"
    con.execute(f"CREATE TABLE look.delisted AS SELECT DISTINCT symbol FROM {delisted}")  # noqa: S608 - ours
    for statement in (_DAYS, _SYMBOLS, _TIMES, _SCALE, _MOVES):
        con.execute(statement)
    _lay_out_market(con)
    for statement in (_TRADED, _APART, _DAILY if daily else _BY_DAY):
        con.execute(statement)
    return not daily


def _lay_out_market(con: duckdb.DuckDBPyConnection) -> None:
    """Make ``look.market``: a median is of values that are all in memory, which no limit counts."""
    con.execute("CREATE TABLE look.market (row INTEGER, move DOUBLE, gap DOUBLE)")
    for bounds in con.execute(_SOME_ROWS, [_AT_ONCE]).fetchall():
        con.execute(_MARKET, bounds)


def clear(con: duckdb.DuckDBPyConnection) -> None:
    """Leave the connection as it was before :func:`lay_out`, also where that failed."""
    con.execute("DETACH DATABASE IF EXISTS look")
    for name in ("unit", "week", "last_time", "known_from", "known_to"):
        con.execute(f"RESET VARIABLE {name}")


_DAYS: Final = """
    CREATE TABLE look.days AS
    SELECT *, CAST(date AS DATE) AS day, CAST(row_number() OVER (ORDER BY date) - 1 AS INTEGER) AS row,
        CAST(dense_rank() OVER (ORDER BY CAST(date AS DATE)) - 1 AS INTEGER) AS number
    FROM (SELECT date, count(*) AS bars FROM bars GROUP BY date)
"""
_SYMBOLS: Final = """
    CREATE TABLE look.symbols AS
    SELECT symbol, first, last, since.row AS first_row, till.row AS last_row,
        (SELECT max(number) FROM look.days) - till.number AS behind,
        CAST(row_number() OVER (ORDER BY symbol) - 1 AS INTEGER) AS lane
    FROM (SELECT symbol, min(date) AS first, max(date) AS last FROM bars GROUP BY symbol)
    JOIN look.days AS since ON since.date = first JOIN look.days AS till ON till.date = last
"""
_TIMES: Final = """
    CREATE TABLE look.times AS
    SELECT row, CAST(row_number() OVER (ORDER BY row) - 1 AS INTEGER) AS place FROM (
        SELECT row, bars, sum(coalesce(begun, 0) - coalesce(gone, 0)) OVER (ORDER BY row) AS listed
        FROM look.days
        LEFT JOIN (SELECT first_row AS row, count(*) AS begun FROM look.symbols GROUP BY ALL) USING (row)
        LEFT JOIN (SELECT last_row + 1 AS row, count(*) AS gone FROM look.symbols GROUP BY ALL) USING (row)
    ) WHERE 10 * bars >= listed
"""
_SCALE: Final = """
    SET VARIABLE week = (SELECT 5 * median(times) FROM (SELECT count(*) AS times FROM look.days GROUP BY day));
    SET VARIABLE last_time = (SELECT max(place) FROM look.times);
"""
# Logarithms, so that a move and its reversal are of one size. Prices are kept to be told, for which few digits do.
_MOVES: Final = """
    CREATE TABLE look.moves AS
    SELECT lane, row, place, still, traded, before::FLOAT AS before, open::FLOAT AS open, close::FLOAT AS close,
        after::FLOAT AS after, factor_before::FLOAT AS factor_before, adj_factor::FLOAT AS adj_factor,
        ln(close * adj_factor / (before * factor_before)) AS move,
        ln(CASE WHEN open > 0 THEN open * adj_factor / (before * factor_before) END) AS gap
    FROM (
        SELECT lane, row, open, close, adj_factor, coalesce(volume > 0, false) AS traded,
            lag(close) OVER own AS before, lag(adj_factor) OVER own AS factor_before, lead(close) OVER own AS after,
            (open, high, low, close) = lag((open, high, low, close)) OVER own AS still,
            row_number() OVER own::INTEGER AS place
        FROM bars JOIN look.days USING (date) JOIN look.symbols USING (symbol) WHERE NOT suspended AND close > 0
        WINDOW own AS (PARTITION BY lane ORDER BY row)
    )
"""
_AT_ONCE: Final = 1 << 25  # bars
_SOME_ROWS: Final = """
    SELECT min(row), max(row) FROM (SELECT row, sum(bars) OVER (ORDER BY row) // ? AS part FROM look.days)
    GROUP BY part ORDER BY part
"""
_MARKET: Final = """
    INSERT INTO look.market
    SELECT row, median(move), median(gap) FROM look.moves WHERE row BETWEEN ? AND ? GROUP BY row
"""
_TRADED: Final = """
    CREATE VIEW look.traded AS
    SELECT moves.*, symbol, date FROM look.moves JOIN look.symbols USING (lane) JOIN look.days USING (row)
"""
# The few are laid down first: their neighbours are then looked up among all in one pass.
_APART: Final = """
    CREATE TABLE look.far AS
    SELECT moves.*, moves.move - market.move AS own, moves.gap - market.gap AS own_gap
    FROM look.moves JOIN look.market USING (row)
    WHERE abs(moves.move - market.move) > 0.2 OR abs(moves.gap - market.gap) > 0.15;
    CREATE TABLE look.beside AS
    SELECT far.lane, far.place, step, moves.move - market.move AS own
    FROM look.far CROSS JOIN (VALUES (-1), (1)) AS steps (step)
    JOIN look.moves ON moves.lane = far.lane AND moves.place = far.place + step
    JOIN look.market ON market.row = moves.row;
    CREATE TABLE look.apart AS
    SELECT symbol, date, far.*, later.own AS own_after, earlier.own AS own_before
    FROM look.far JOIN look.symbols USING (lane) JOIN look.days USING (row)
    LEFT JOIN look.beside AS later ON later.lane = far.lane AND later.place = far.place AND later.step = 1
    LEFT JOIN look.beside AS earlier ON earlier.lane = far.lane AND earlier.place = far.place AND earlier.step = -1
"""
_DAILY: Final = """
    CREATE VIEW look.daily AS SELECT lane, row AS number, move FROM look.moves WHERE move IS NOT NULL;
    CREATE VIEW look.typical AS SELECT row AS number, move FROM look.market
"""
_BY_DAY: Final = """
    CREATE TABLE look.daily AS
    SELECT lane, number, sum(move) AS move FROM look.moves JOIN look.days USING (row)
    WHERE move IS NOT NULL GROUP BY ALL;
    CREATE VIEW look.typical AS SELECT number, median(move) AS move FROM look.daily GROUP BY number
"""

_BARS: Final = (
    Rule(
        "price",
        "error",
        "a price at which it was traded is zero or less",
        """
        SELECT symbol, date, format('{:.6g}', least(open, high, low, close)) AS detail
        FROM bars WHERE NOT suspended AND least(open, high, low, close) <= 0
        """,
    ),
    Rule(
        "range",
        "error",
        "the highest price of a bar is below the lowest",
        """
        SELECT symbol, date, format('high {:.6g} below low {:.6g}', high, low) AS detail
        FROM bars WHERE high < low AND high > 0
        """,
    ),
    Rule(
        "adjustment",
        "error",
        "the adjustment factor moves the adjusted price where the price as it was traded does not move",
        """
        SELECT symbol, date,
            format('factor {:.6g} to {:.6g}, price {:.6g} to {:.6g}', factor_before, adj_factor, before, close)
                AS detail
        FROM look.traded WHERE adj_factor <> factor_before AND abs(move) > abs(ln(close / before)) + 0.05
        """,
    ),
    Rule("shifted", "error", "it moves with the market on other days than its dates say", None),
    Rule(
        "outside",
        "warning",
        "the first or the last price of a bar lies outside of its range, by more than rounding",
        """
        SELECT symbol, date, format('{:.6g} and {:.6g} of {:.6g} to {:.6g}', open, close, low, high) AS detail
        FROM bars WHERE high >= low AND least(open, close, low) > 0
            AND (greatest(open, close) > high * 1.00001 OR least(open, close) < low * 0.99999)
        """,
    ),
    Rule(
        "print",
        "warning",
        "an adjusted price moves by a fifth or more beside the others, and is back the bar after: perhaps a bad print",
        """
        SELECT symbol, date, format('from {:.6g} to {:.6g}, then {:.6g}', before, close, after) AS detail
        FROM look.apart WHERE abs(own) > 0.2 AND abs(own + own_after) < abs(own) / 4
        """,
    ),
    Rule(
        "gap",
        "warning",
        "an adjusted price opens a seventh or more beside the others and stays: a split or a spin-off that is not "
        "adjusted for, or news",
        """
        SELECT symbol, date,
            format('from {:.6g} to {:.6g}, {:+.0f} %', before, open, (exp(own_gap) - 1) * 100) AS detail
        FROM look.apart
        WHERE abs(own_gap) > 0.15 AND abs(own - own_gap) < abs(own_gap) / 2
            AND least(abs(own + own_after), abs(coalesce(own_before, 0) + own)) > abs(own_gap) / 2
        """,
    ),
    Rule(
        "volume",
        "warning",
        "no volume for a week or more, although it is traded",
        """
        SELECT symbol, min(date) AS date, format('{} {}', count(*), getvariable('unit')) AS detail FROM (
            SELECT symbol, date, place - row_number() OVER (PARTITION BY lane ORDER BY place) AS run
            FROM look.traded WHERE NOT traded
        ) GROUP BY symbol, run HAVING count(*) >= getvariable('week')
        """,
    ),
    Rule(
        "stale",
        "warning",
        "the same four prices for more than a week, although it is traded",
        """
        SELECT symbol, min(date) AS date,
            format('{} {} of {:.6g}', count(*), getvariable('unit'), any_value(close)) AS detail
        FROM (
            SELECT symbol, date, close, place - row_number() OVER (PARTITION BY lane ORDER BY place) AS run
            FROM look.traded WHERE still AND traded
        ) GROUP BY symbol, run HAVING count(*) >= getvariable('week')
        """,
    ),
)

_COVERAGE: Final = (
    Rule(
        "absent",
        "warning",
        "between its first and its last bar it has none at times when others have",
        # A bit for each time spares another sort of all bars.
        """
        SELECT symbol, date, format('{} of {} {}', length(own) - length(replace(own, '0', '')), length(own),
            getvariable('unit')) AS detail
        FROM (
            SELECT symbol, instr(there, '1') + instr(ltrim(there, '0'), '0') - 2 AS place,
                rtrim(ltrim(there, '0'), '0') AS own
            FROM (
                SELECT symbol, bitstring_agg(place, 0, getvariable('last_time'))::VARCHAR AS there
                FROM bars JOIN look.days USING (date) JOIN look.times USING (row) GROUP BY symbol
            )
        ) JOIN look.times USING (place) JOIN look.days USING (row) WHERE contains(own, '0')
        """,
    ),
    Rule(
        "ended",
        "warning",
        "its bars end a month or more before the market's, and no return of its delisting is known: it is held at its "
        "last price",
        """
        SELECT symbol, last AS date, format('{} days before the market', behind) AS detail
        FROM look.symbols ANTI JOIN look.delisted USING (symbol) WHERE behind > 20
        """,
    ),
    Rule(
        "survivors",
        "warning",
        "members of an index have no bars, or no instrument of a market ever ends: who has done badly and is gone may "
        "be missing, and factors look better than they were",
        f"""
        SELECT '{EVERYBODY}' AS symbol, date,
            format('{{}}: {{}} of {{}} members have bars in {{}}', universe, held, members, year) AS detail
        FROM (
            SELECT universe, begins.date, year, count(DISTINCT membership.symbol) AS members,
                count(DISTINCT membership.symbol) FILTER (held.symbol IS NOT NULL) AS held
            FROM membership JOIN (SELECT year(day) AS year, min(day) AS date FROM look.days GROUP BY ALL) AS begins
                ON (start IS NULL OR start <= begins.date) AND ("end" IS NULL OR begins.date < "end")
            LEFT JOIN (SELECT DISTINCT symbol, year(date) AS year FROM bars) AS held USING (symbol, year)
            GROUP BY ALL
        ) WHERE held < 0.98 * members
        UNION ALL
        SELECT '{EVERYBODY}', CAST(min(first) AS DATE), format('none of {{}} instruments ends before {{}}', count(*),
            CAST(max(last) AS DATE))
        FROM look.symbols
        HAVING max(behind) <= 20 AND date_diff('day', min(first), max(last)) >= 365
            AND sum(date_diff('day', first, last)) >= 100 * 365
        """,  # noqa: S608 - a text of ours
    ),
)

# The market trades on a day on which half of the symbols that are listed then have a bar.
_OFF: Final = """
    SELECT symbol, date, day, 2 * count(*) OVER (PARTITION BY day) >= listed AS whole FROM (
        SELECT symbol, min(bars.date) AS date, day
        FROM bars JOIN look.days USING (date) ANTI JOIN look.sessions USING (day)
        WHERE day BETWEEN getvariable('known_from') AND getvariable('known_to') GROUP BY ALL
    ) JOIN (
        SELECT day, count(*) AS listed
        FROM (SELECT DISTINCT day FROM look.days ANTI JOIN look.sessions USING (day))
        JOIN look.symbols ON day BETWEEN CAST(first AS DATE) AND CAST(last AS DATE) GROUP BY day
    ) USING (day)
"""
_CALENDAR: Final = (
    Rule(
        "session",
        "error",
        "it has bars on days that are no sessions of the exchange, when the market has none: to all others the day "
        "counts as one that is missing",
        f"""
        SELECT symbol, min(date) AS date, format('{{}} days, to {{}}', count(*), max(day)) AS detail
        FROM ({_OFF}) WHERE NOT whole GROUP BY symbol
        """,  # noqa: S608 - a query of ours
        "exchange",
    ),
    Rule(
        "closed",
        "warning",
        "the market has bars on days that are no sessions of the exchange: another exchange, another time zone, or "
        "holidays that were filled",
        f"""
        SELECT '{EVERYBODY}' AS symbol, min(date) AS date,
            format('{{}} days in {{}}, to {{}}', count(DISTINCT day), year(day), max(day)) AS detail
        FROM ({_OFF}) WHERE whole GROUP BY year(day)
        """,  # noqa: S608 - a query of ours
        "exchange",
    ),
    Rule(
        "calendar",
        "warning",
        "sessions of the exchange on which the market has no bar, or days of which its calendar says nothing",
        f"""
        SELECT '{EVERYBODY}' AS symbol, min(day) AS date,
            format('{{}} sessions, to {{}}', count(*), max(day)) AS detail
        FROM (
            SELECT day, number - row_number() OVER (ORDER BY day) AS run
            FROM (SELECT day, row_number() OVER (ORDER BY day) AS number FROM look.sessions) ANTI JOIN look.days
                USING (day)
            WHERE day BETWEEN (SELECT min(day) FROM look.days) AND (SELECT max(day) FROM look.days)
        ) GROUP BY run
        UNION ALL
        SELECT '{EVERYBODY}', min(day), format('{{}} days are not among {{}} to {{}}, of which it is known',
            count(DISTINCT day), getvariable('known_from'), getvariable('known_to'))
        FROM look.days WHERE day NOT BETWEEN getvariable('known_from') AND getvariable('known_to') HAVING count(*) > 0
        """,  # noqa: S608 - a text of ours
        "exchange",
    ),
    Rule(
        "hours",
        "warning",
        "bars before the exchange opens, after it closes, or in its break, as times of the exchange's place",
        # A bar may have the time of its begin or of its end, so that all of the bounds are within.
        f"""
        WITH off AS (
            SELECT symbol, min(date) AS date, count(*) AS bars FROM bars SEMI JOIN (
                SELECT date FROM look.days JOIN look.sessions USING (day)
                WHERE date NOT BETWEEN opens AND closes OR (date > pauses AND date < resumes)
            ) AS away USING (date) GROUP BY symbol
        ), share AS (SELECT 2 * count(*) >= (SELECT count(*) FROM look.symbols) AS whole FROM off)
        SELECT symbol, date, format('{{}} bars', bars) AS detail FROM off, share WHERE NOT whole
        UNION ALL
        SELECT '{EVERYBODY}', min(date), format('{{}} bars of {{}} symbols', sum(bars)::BIGINT, count(*))
        FROM off, share WHERE whole HAVING count(*) > 0
        """,  # noqa: S608 - a text of ours
        "hours",
    ),
)

# Errors first.
RULES: Final = tuple(sorted((*_BARS, *_CALENDAR, *_COVERAGE), key=lambda rule: rule.severity))

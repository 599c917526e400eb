"""Quality: what looks wrong in the in-sample bars of a snapshot, by rules that each are a query.

Bars are looked at as they were traded, and adjusted only where a rule says so: a split that a vendor has missed and one
that it has made up both show in the series that factors see.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

import duckdb

from factors.frame import to_frame
from factors.shift import shifts
from storage.snapshot import Snapshot

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What must not be, or is worth a look.

    Attributes:
        name: what it is called.
        severity: whether factors would be wrong, or might be.
        says: what it means, in words.
        query: ``symbol``, ``date`` and ``detail`` of each bar that breaks it; ``None`` where it takes more than SQL.
    """

    name: str
    severity: Severity
    says: str
    query: str | None


@dataclass(frozen=True, slots=True)
class Finding:
    """That a bar of a symbol, or a run of them from that day on, breaks a rule, and how."""

    rule: str
    severity: Severity
    symbol: str
    date: date
    detail: str


# Logarithms, so that a move and its reversal are of one size. What all symbols do on a day is no fault of one.
_TRADED: Final = """
    CREATE TEMP TABLE traded AS
    SELECT *, lead(own) OVER days AS own_after, lag(own) OVER days AS own_before FROM (
        SELECT *, move + adjusted - median(move + adjusted) OVER (PARTITION BY date) AS own,
            gap + adjusted - median(gap + adjusted) OVER (PARTITION BY date) AS own_gap
        FROM (
            SELECT *, ln(close / before) AS move, ln(CASE WHEN open > 0 THEN open / before END) AS gap,
                ln(adj_factor / factor_before) AS adjusted
            FROM (
                SELECT symbol, date, open, high, low, close, volume, adj_factor,
                    lag(close) OVER days AS before, lag(adj_factor) OVER days AS factor_before,
                    lead(close) OVER days AS after, row_number() OVER days AS place
                FROM bars WHERE NOT suspended AND close > 0
                WINDOW days AS (PARTITION BY symbol ORDER BY date)
            )
        )
    ) WINDOW days AS (PARTITION BY symbol ORDER BY date)
"""
_RUN: Final = 5  # days, a week

RULES: Final = (
    Rule(
        "range",
        "error",
        "the highest price of a day is below the lowest",
        "SELECT symbol, date, format('high {:.6g} below low {:.6g}', high, low) AS detail FROM bars WHERE high < low",
    ),
    Rule(
        "adjustment",
        "error",
        "the adjustment factor moves the adjusted price where the price as it was traded does not move",
        """
        SELECT symbol, date,
            format('factor {:.6g} to {:.6g}, price {:.6g} to {:.6g}', factor_before, adj_factor, before, close)
                AS detail
        FROM traded WHERE adjusted <> 0 AND abs(move + adjusted) > abs(move) + 0.05
        """,
    ),
    Rule("shifted", "error", "it moves with the market on other days than its dates say", None),
    Rule(
        "outside",
        "warning",
        "the first or the last price of a day lies outside of its range, by more than rounding",
        """
        SELECT symbol, date, format('{:.6g} and {:.6g} of {:.6g} to {:.6g}', open, close, low, high) AS detail
        FROM bars WHERE high >= low AND (greatest(open, close) > high * 1.00001 OR least(open, close) < low * 0.99999)
        """,
    ),
    Rule(
        "print",
        "warning",
        "an adjusted price moves by a fifth or more beside the others, and is back the day after: perhaps a bad print",
        """
        SELECT symbol, date, format('from {:.6g} to {:.6g}, then {:.6g}', before, close, after) AS detail FROM traded
        WHERE abs(own) > 0.2 AND abs(own + own_after) < abs(own) / 4
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
        FROM traded
        WHERE abs(own_gap) > 0.15 AND abs(own - own_gap) < abs(own_gap) / 2
            AND least(abs(own + own_after), abs(coalesce(own_before, 0) + own)) > abs(own_gap) / 2
        """,
    ),
    Rule(
        "volume",
        "warning",
        "no volume for a week or more, although it is traded",
        f"""
        SELECT symbol, min(date) AS date, format('{{}} days', count(*)) AS detail FROM (
            SELECT symbol, date, place - row_number() OVER (PARTITION BY symbol ORDER BY date) AS run
            FROM traded WHERE coalesce(volume, 0) = 0
        ) GROUP BY symbol, run HAVING count(*) >= {_RUN}
        """,  # noqa: S608 - a number of ours
    ),
    Rule(
        "stale",
        "warning",
        "the same four prices for more than a week, although it is traded",
        f"""
        SELECT symbol, min(date) AS date, format('{{}} days of {{:.6g}}', count(*), any_value(close)) AS detail FROM (
            SELECT symbol, date, close, place - row_number() OVER (PARTITION BY symbol ORDER BY date) AS run FROM (
                SELECT *, (open, high, low, close) = lag((open, high, low, close)) OVER days AS same
                FROM traded WHERE volume > 0 WINDOW days AS (PARTITION BY symbol ORDER BY date)
            ) WHERE same
        ) GROUP BY symbol, run HAVING count(*) >= {_RUN}
        """,  # noqa: S608 - a number of ours
    ),
    Rule(
        "absent",
        "warning",
        "days between its first and its last bar on which the market has bars and it has none",
        """
        SELECT symbol, min(date) AS date, format('{} of {} days', count(*), any_value(days)) AS detail FROM (
            SELECT symbol, date, count(*) OVER (PARTITION BY symbol) AS days, own.date IS NULL AS absent
            FROM (SELECT symbol, min(date) AS first, max(date) AS last FROM bars GROUP BY symbol)
            JOIN (SELECT DISTINCT date FROM bars) ON date BETWEEN first AND last
            LEFT JOIN bars AS own USING (symbol, date)
        ) WHERE absent GROUP BY symbol
        """,
    ),
)


@dataclass(frozen=True, slots=True)
class Quality:
    """What a look at the bars has come to.

    Attributes:
        findings: errors first, then by rule, symbol and date.
        unsaid: rules that say nothing here, as there is too little to look at.
    """

    findings: tuple[Finding, ...]
    unsaid: tuple[str, ...]


def examine(snapshot: Snapshot) -> Quality:
    """Look at the in-sample bars of a snapshot."""
    found: list[Finding] = []
    unsaid = []
    with snapshot.connect() as con:
        con.execute(_TRADED)
        for rule in RULES:
            rows = _shifted(con) if rule.query is None else _broken(con, rule.query)
            if rows is None:
                unsaid.append(rule.name)
            else:
                found += [Finding(rule.name, rule.severity, *row) for row in rows]
    return Quality(tuple(sorted(found, key=lambda one: one.severity)), tuple(unsaid))


def _broken(con: duckdb.DuckDBPyConnection, query: str) -> Iterator[tuple[str, date, str]]:
    return to_frame(con.sql(f"SELECT symbol, date, detail FROM ({query}) ORDER BY ALL")).iter_rows()  # noqa: S608


def _shifted(con: duckdb.DuckDBPyConnection) -> list[tuple[str, date, str]] | None:
    found = shifts(to_frame(con.sql("SELECT date, symbol, move + adjusted AS move FROM traded")))
    if found is None:
        return None
    rows = []
    for one in found:
        [(first,)] = con.execute("SELECT min(date) FROM traded WHERE symbol = ?", [one.symbol]).fetchall()
        when = f"{abs(one.days)} days {'later' if one.days > 0 else 'earlier'}"
        figures = f"rank correlation {one.correlation:.2f}, as dated {one.as_dated:.2f}"
        rows.append((one.symbol, first, f"as the market does {when} ({figures})"))
    return rows

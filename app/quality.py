"""The quality of a market as people and programs read it: its findings by rule, by symbol, and one by one."""

from collections import Counter
from datetime import date, datetime

from pydantic import BaseModel, ConfigDict

from factors.errors import NotFoundError
from storage.acceptance import known_rules
from storage.quality import Finding, Quality, Severity
from storage.reports import RuleSummary, summary
from storage.snapshot import Snapshot


class FoundItem(BaseModel):
    """That a bar of a symbol, or a run of them from that day on, breaks a rule, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: str
    severity: Severity
    symbol: str
    date: date | datetime
    detail: str


class SymbolCount(BaseModel):
    """How many errors and warnings there are of a symbol."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    symbol: str
    errors: int
    warnings: int


class MarketQuality(BaseModel):
    """What looks wrong in the in-sample bars of a version.

    Attributes:
        market: its name.
        version: its id.
        rules: each rule, errors first, and how often it is broken.
        symbols: those with findings, those with the most errors first, then with the most warnings.
        items: a page of the findings that were asked for: errors first, then by rule, symbol and date.
        next_cursor: of the next page, null on the last.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    market: str
    version: str
    rules: tuple[RuleSummary, ...]
    symbols: tuple[SymbolCount, ...]
    items: tuple[FoundItem, ...]
    next_cursor: str | None


def market_quality(
    snapshot: Snapshot,
    found: Quality,
    *,
    rule: str | None = None,
    symbol: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> MarketQuality:
    """The quality of a version, and a page of its findings by a rule and of a symbol, or by all of all.

    Raises:
        SettingError: there is no such rule.
        NotFoundError: no finding has that cursor.
    """
    known_rules([] if rule is None else [rule])
    wanted = [one for one in found.findings if rule in {None, one.rule} and symbol in {None, one.symbol}]
    first = 0 if cursor is None else _place(cursor, len(wanted))
    following = first + limit
    return MarketQuality(
        market=snapshot.market,
        version=snapshot.id,
        rules=summary(found),
        symbols=_by_symbol(found.findings),
        items=tuple(
            FoundItem(rule=one.rule, severity=one.severity, symbol=one.symbol, date=one.date, detail=one.detail)
            for one in wanted[first:following]
        ),
        next_cursor=str(following) if following < len(wanted) else None,
    )


def _place(cursor: str, count: int) -> int:
    # A version never changes, and so neither does the order of its findings.
    if cursor.isascii() and cursor.isdigit() and len(cursor) < len(str(2**63)) and int(cursor) < count:
        return int(cursor)
    raise NotFoundError(f"no cursor {cursor!r}")


def _by_symbol(findings: tuple[Finding, ...]) -> tuple[SymbolCount, ...]:
    errors = Counter(one.symbol for one in findings if one.severity == "error")
    warnings = Counter(one.symbol for one in findings if one.severity != "error")
    counts = [SymbolCount(symbol=name, errors=errors[name], warnings=warnings[name]) for name in errors | warnings]
    return tuple(sorted(counts, key=lambda one: (-one.errors, -one.warnings, one.symbol)))

"""Acceptance: what was found wrong in a version's bars before it was published, and which of it was taken."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Final

import duckdb

from factors.errors import DataError, SettingError
from storage.calendars import LibraryMissingError, bars_per_year
from storage.quality import RULES, Finding, Quality, inspect
from storage.snapshot import LIMITS, Snapshot, connect_version, insert_rows
from storage.staging import typed

_SHOWN: Final = 5  # findings of a rule that a refusal tells, of however many


def known_rules(names: Collection[str]) -> None:
    """Raise a SettingError where one of these is no name of a rule."""
    known = [rule.name for rule in RULES]
    for name in names:
        if name not in known:
            raise SettingError(f"no rule {name!r}; expected one of {', '.join(known)}")


def certify(
    version: Path, exchange: str | None, accept: Collection[str], follows: Snapshot | None = None, *, same: bool = False
) -> None:
    """Look at the bars in sample of a version that is not yet published, and note in it what was found.

    Args:
        version: its folder.
        exchange: whose sessions its days should be.
        accept: rules whose errors are accepted.
        follows: the version that it goes on from, whose errors were accepted.
        same: whether everything in sample is as it is there.

    Raises:
        DataError: there are errors by a rule that is not accepted.
    """
    before = None if follows is None else recorded(follows)
    if follows is not None and before is not None and same:
        found, yearly = before, follows.bars_per_year
    else:
        # Beside the version, as the system's folder for temporary files may be in memory.
        with connect_version(version, version.with_name("spill")) as con:
            found, yearly = inspect(con, exchange), _bars_per_year(con, exchange)
    errors = [one for one in found.findings if one.severity == "error"]
    taken = set() if before is None else {_fault(one) for one in before.findings}
    refused = [one for one in errors if one.rule not in accept and _fault(one) not in taken]
    if refused:
        raise DataError(_refusal(refused, found.more))
    with duckdb.connect(version / "insample.duckdb", config=LIMITS) as con:
        moment = typed(con, "calendar")["date"]
        con.execute(
            f"CREATE TABLE findings (rule VARCHAR, severity VARCHAR, symbol VARCHAR, date {moment}, detail VARCHAR)"
        )
        rows = [(one.rule, one.severity, one.symbol, one.date, one.detail) for one in found.findings]
        insert_rows(con, "findings", rows)
        con.execute("CREATE TABLE unsaid (rule VARCHAR, reason VARCHAR)")
        insert_rows(con, "unsaid", [*found.unsaid.items()])
        con.execute("CREATE TABLE more (rule VARCHAR, count BIGINT)")
        insert_rows(con, "more", [*found.more.items()])
        con.execute("UPDATE meta SET accepted = ?, bars_per_year = ?", [sorted({one.rule for one in errors}), yearly])


_WHOLE: Final = {rule.name for rule in RULES if rule.query is None}  # which judge all bars of a symbol at once


def _fault(finding: Finding) -> Finding:
    """What is accepted of a finding: where it is told of all bars of a symbol, its figures move with every new one."""
    return replace(finding, detail="") if finding.rule in _WHOLE else finding


def _bars_per_year(con: duckdb.DuckDBPyConnection, exchange: str | None) -> float:
    try:
        return bars_per_year(con, exchange)
    except LibraryMissingError:
        return bars_per_year(con, None)


def recorded(snapshot: Snapshot) -> Quality:
    """What was found when a version was imported."""
    with snapshot.connect() as con:
        findings = con.execute("SELECT rule, severity, symbol, date, detail FROM findings ORDER BY rowid").fetchall()
        more, unsaid = (con.execute(f"FROM {name} ORDER BY rowid").fetchall() for name in ("more", "unsaid"))
    return Quality(tuple(Finding(*row) for row in findings), dict(more), dict(unsaid))


def _refusal(errors: Sequence[Finding], untold: Mapping[str, int]) -> str:
    lines = []
    for name, group in groupby(errors, key=lambda one: one.rule):
        found = list(group)
        shown = "; ".join(f"{one.date} {one.symbol}: {one.detail}" for one in found[:_SHOWN])
        count = len(found) + untold.get(name, 0)
        more = f"; and {count - _SHOWN:,} more" if count > _SHOWN else ""
        says = next(rule.says for rule in RULES if rule.name == name)
        lines.append(f"{name} ({says}): {shown}{more}")
    rules = sorted({one.rule for one in errors})
    return f"the bars break rules, and nothing was published: {'. '.join(lines)}. To accept: {', '.join(rules)}"

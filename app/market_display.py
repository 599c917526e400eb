"""What the command line shows of markets to people."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.versions import MarketVersion
from factors.prose import on_one_line
from storage.quality import RULES, Quality
from storage.reports import ImportReport
from storage.snapshot import Snapshot

EXAMPLES = 5  # findings of a rule, of however many


def _shown(text: str) -> str:
    """What a vendor wrote, without what a terminal would take for a command."""
    return escape(on_one_line(text))


def snapshots(console: Console, found: Iterable[Snapshot]) -> None:
    """Markets, three lines each."""
    for snapshot in found:
        console.print(
            f"[bold]{snapshot.market}[/]{' (synthetic)' if snapshot.synthetic else ''}, snapshot {snapshot.id}\n"
            f"  {snapshot.instruments:,} instruments, {snapshot.rows:,} bars, "
            f"universes {', '.join(map(_shown, snapshot.universes))}\n"
            f"  train {snapshot.first_date} to {snapshot.train_end}, valid to {snapshot.valid_end}, "
            f"hold-out {'sealed' if snapshot.has_holdout else 'none'}",
            highlight=False,
        )


def quality(console: Console, snapshot: Snapshot, found: Quality) -> None:
    """What looks wrong in a market's bars, by rule, the first findings of each."""
    for rule in RULES:
        broken = [one for one in found.findings if one.rule == rule.name]
        if not broken:
            continue
        symbols = len({one.symbol for one in broken})
        console.print(f"[bold]{rule.severity} {rule.name}[/]: {rule.says}", highlight=False)
        for one in broken[:EXAMPLES]:
            console.print(f"  {one.date} {_shown(one.symbol)}: {_shown(one.detail)}", highlight=False)
        if len(broken) > EXAMPLES:
            more = found.more.get(rule.name, 0)
            of_how_many = "" if more else f", of {symbols:,} symbols"
            console.print(f"  … {len(broken) + more:,} in all{of_how_many}", highlight=False)
    there = {one.rule for one in found.findings} | {*found.unsaid}
    kept = ", ".join(rule.name for rule in RULES if rule.name not in there)
    words = [f"nothing of {kept}"] * bool(kept)
    words += _unsaid(found.unsaid)
    console.print("; ".join([f"{snapshot.rows:,} bars in sample looked at", *words]), highlight=False)


def snapshot_facts(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as JSON, without its place on disk."""
    return {name: value for name, value in asdict(snapshot).items() if name != "path"}


def report(console: Console, found: ImportReport) -> None:
    """What looks wrong in what was imported, a line for each rule that is broken, errors first."""
    broken = [rule for rule in found.rules if rule.findings]
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for rule in broken:
        accepted = ", accepted" if rule.rule in found.accepted else ""
        style = {"error": "red", "warning": "yellow"}[rule.severity]
        span = f"{rule.first_date}" + (f" to {rule.last_date}" if rule.last_date != rule.first_date else "")
        symbols = {0: "the market", 1: "1 symbol"}.get(rule.symbols, f"{rule.symbols:,} symbols")
        words = f"of {symbols}, {span}: {rule.says}"
        table.add_row(f"[{style}]{rule.severity}[/]{accepted}", rule.rule, f"{rule.findings:,}", words)
    if broken:
        console.print(table, highlight=False)
    words = f"  one by one: alphaagent data check {found.market}" if broken else "  nothing looks wrong in the bars"
    unsaid = {rule.rule: rule.unsaid for rule in found.rules if rule.unsaid is not None}
    console.print("; ".join([words, *_unsaid(unsaid)]), highlight=False)


def _unsaid(reasons: dict[str, str]) -> list[str]:
    """What the rules say nothing of, by why."""
    said: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        said.setdefault(reason, []).append(name)
    return [f"no telling of {', '.join(names)}: {reason}" for reason, names in said.items()]


def versions(console: Console, found: Iterable[MarketVersion]) -> None:
    """A market's versions and what uses them, three lines each."""
    for one in found:
        console.print(
            f"[bold]{one.id}[/]{', current' if one.current else ''}, imported {one.imported_at:%Y-%m-%d %H:%M} UTC\n"
            f"  {one.instruments:,} instruments, {one.rows:,} bars, {one.first_date} to {one.valid_end} in sample\n"
            f"  {one.runs:,} runs, {one.open_runs:,} of them unfinished, {one.trials:,} trials, "
            f"{one.factors:,} factors",
            highlight=False,
        )

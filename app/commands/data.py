"""``alphaagent data``: the markets of a home, and their versions."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app import market_display
from app.commands.fetch import fetch_data
from app.commands.options import Json
from app.importing import import_source
from app.progress import ImportProgress
from app.runner import operator
from app.settings import Settings
from app.versions import MarketVersion, check_unused, market_versions, prune_version
from factors.demo_market import demo_market
from factors.errors import NotFoundError, SettingError
from storage.layouts import AUTO, NAMES
from storage.markets import InUseError, Snapshot, list_markets, open_market, publish
from storage.quality import RULES, examine
from storage.records import Records
from storage.trading_rules import NO_RULES, RULE_SETS

DEMO = "demo"
_ERRORS = [rule.name for rule in RULES if rule.severity == "error"]

data = typer.Typer(no_args_is_help=True, help="Markets: fetch, import, check, list, prune, build the synthetic demo.")
data.command("fetch")(fetch_data)

Name = Annotated[str, typer.Argument(metavar="NAME")]


@data.command("demo")
def make_demo(seed: Annotated[int, typer.Option(min=0)] = 7, as_json: Json = False) -> None:
    """Build the synthetic demo market."""
    market = demo_market(seed)
    snapshot = publish(
        Settings().home,
        DEMO,
        market.bars,
        membership=market.membership,
        sectors=market.sectors,
        train_end=market.train_end,
        valid_end=market.valid_end,
        synthetic=True,
    )
    _log_imported(snapshot.id)
    _print_snapshots([snapshot], as_json=as_json)


@data.command("list")
def list_data(as_json: Json = False) -> None:
    """The imported markets."""
    _print_snapshots(list_markets(Settings().home), as_json=as_json)


@data.command("check")
def check_data(market: Name, as_json: Json = False) -> None:
    """What looks wrong in a market's bars: exit status 0 nothing but warnings, 1 errors."""
    snapshot = open_market(Settings().home, market)
    found = examine(snapshot)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2, default=str))
    else:
        market_display.quality(Console(), snapshot, found)
    raise typer.Exit(int(any(one.severity == "error" for one in found.findings)))


@data.command("import")
def import_data(
    source: Annotated[Path, typer.Argument(metavar="PATH", help="A file of daily bars, or a folder of files.")],
    market: Annotated[str, typer.Option(help="Name to import it under.")],
    membership: Annotated[Path | None, typer.Option(help="symbol, start, end[, index].")] = None,
    sectors: Annotated[Path | None, typer.Option(help="symbol, sector[, start, end].")] = None,
    tickers: Annotated[Path | None, typer.Option(help="symbol, instrument[, start, end].")] = None,
    delistings: Annotated[Path | None, typer.Option(help="symbol, date, return.")] = None,
    benchmark: Annotated[Path | None, typer.Option(help="date, close[, index].")] = None,
    train_end: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])] = None,
    valid_end: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])] = None,
    layout: Annotated[str, typer.Option(help=f"How the source is laid out: {', '.join(NAMES)}.")] = AUTO,
    no_holdout: Annotated[bool, typer.Option("--no-holdout", help="Keep nothing back for promotion.")] = False,
    rules: Annotated[str, typer.Option(help=f"How instruments trade: {', '.join(RULE_SETS)}.")] = NO_RULES,
    append: Annotated[bool, typer.Option("--append", help="The bars follow those that are there.")] = False,
    accept: Annotated[
        list[str] | None, typer.Option(metavar="RULE", help=f"Accept its errors: {', '.join(_ERRORS)}.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Import bars: date, symbol, open, high, low, close, volume, any more numeric columns."""
    home, told = Settings().home, list[str]()
    with ImportProgress(Console(stderr=True), market) as shown:

        def tell(line: str) -> None:
            told.append(line)
            shown.tell(line)

        report = import_source(
            home,
            market,
            source,
            membership=membership,
            sectors=sectors,
            tickers=tickers,
            delistings=delistings,
            benchmark=benchmark,
            train_end=train_end.date() if train_end else None,
            valid_end=valid_end.date() if valid_end else None,
            holdout=not no_holdout,
            layout=layout,
            rules=rules,
            append=append,
            accept=accept or (),
            tell=tell,
            progress=shown.count,
        )
    _log_imported(report.snapshot)
    snapshot = open_market(home, market, report.snapshot)
    if as_json:
        more = report.model_dump(mode="json", include={"accepted", "rules"}) | {"told": told}
        typer.echo(json.dumps([market_display.snapshot_facts(snapshot) | more], indent=2, default=str))
    else:
        market_display.snapshots(Console(), [snapshot])
        market_display.report(Console(), report)


@data.command("versions")
def list_versions(market: Name, as_json: Json = False) -> None:
    """The versions of a market and what uses them: the current one, then the others, the last imported first."""
    settings = Settings()
    with Records.open(settings.records_url) as records:
        found = market_versions(settings, records, market)
    if as_json:
        typer.echo(json.dumps([one.model_dump(mode="json") for one in found], indent=2))
    else:
        market_display.versions(Console(), found)


@data.command("prune")
def prune_data(
    market: Name,
    version: Annotated[list[str] | None, typer.Argument(metavar="VERSION", help="Versions to remove.")] = None,
    keep: Annotated[
        int | None, typer.Option(min=1, help="Remove all but so many, the current one and those last imported.")
    ] = None,
) -> None:
    """Remove versions for good, but never the current one nor one of an unfinished run; what was found stays."""
    if (keep is None) == (not version):
        raise SettingError("expected the versions to remove, or --keep with how many to keep")
    settings = Settings()
    with Records.open(settings.records_url) as records:
        found = market_versions(settings, records, market)
        wanted = _named(market, found, version or ()) if keep is None else found[keep:]
        if keep is None:
            check_unused(records, market, [one.id for one in wanted])
        for one in wanted:
            try:
                prune_version(settings, records, market, one.id, operator())
            except InUseError as reason:
                typer.echo(f"kept {one.id}: {reason}")
            else:
                typer.echo(f"removed {one.id}, in sample to {one.valid_end}, {one.rows:,} bars")
    if not wanted:
        typer.echo(f"nothing to remove: {market} has {len(found)} version{'s' if len(found) > 1 else ''}")


def _named(market: str, found: list[MarketVersion], names: Iterable[str]) -> list[MarketVersion]:
    """The versions of these ids, once each, none of which is the current one."""
    known = {one.id: one for one in found}
    for name in names:
        if name not in known:
            raise NotFoundError(f"market {market!r} has no version {name!r}: it has {', '.join(known)}")
        if known[name].current:
            raise InUseError(f"version {name} is the current one of market {market!r}: it is not removed")
    return [known[name] for name in dict.fromkeys(names)]


def _log_imported(version: str) -> None:
    with Records.open(Settings().records_url) as records:
        records.audit.add(operator(), "market.imported", version)


def _print_snapshots(snapshots: list[Snapshot], *, as_json: bool) -> None:
    if as_json:
        typer.echo(
            json.dumps([market_display.snapshot_facts(snapshot) for snapshot in snapshots], indent=2, default=str)
        )
    else:
        market_display.snapshots(Console(), snapshots)

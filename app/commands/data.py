"""``alphaagent data``: the markets of a home."""

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app import display
from app.commands.options import Json
from app.runner import operator
from app.settings import Settings
from factors.demo_market import demo_market
from storage.ingest import import_market
from storage.layouts import AUTO, NAMES
from storage.markets import Snapshot, list_markets, open_market, publish
from storage.quality import examine
from storage.records import Records

DEMO = "demo"

data = typer.Typer(no_args_is_help=True, help="Markets: import, check, list, build the synthetic demo.")


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
    _tell_imported(snapshot, as_json=as_json)


@data.command("list")
def list_data(as_json: Json = False) -> None:
    """The imported markets."""
    _print_snapshots(list_markets(Settings().home), as_json=as_json)


@data.command("check")
def check_data(market: Annotated[str, typer.Argument(metavar="NAME")], as_json: Json = False) -> None:
    """What looks wrong in a market's bars: exit status 0 nothing but warnings, 1 errors."""
    snapshot = open_market(Settings().home, market)
    found = examine(snapshot)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2, default=str))
    else:
        display.quality(Console(), snapshot, found)
    raise typer.Exit(int(any(one.severity == "error" for one in found.findings)))


@data.command("import")
def import_data(
    source: Annotated[Path, typer.Argument(metavar="PATH", help="A file of daily bars, or a folder of files.")],
    market: Annotated[str, typer.Option(help="Name to import it under.")],
    membership: Annotated[Path | None, typer.Option(help="symbol, start, end[, index].")] = None,
    sectors: Annotated[Path | None, typer.Option(help="symbol, sector.")] = None,
    train_end: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])] = None,
    valid_end: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"])] = None,
    layout: Annotated[str, typer.Option(help=f"How the source is laid out: {', '.join(NAMES)}.")] = AUTO,
    no_holdout: Annotated[bool, typer.Option("--no-holdout", help="Keep nothing back for promotion.")] = False,
    as_json: Json = False,
) -> None:
    """Import bars: date, symbol, open, high, low, close, volume, any more numeric columns."""
    snapshot = import_market(
        Settings().home,
        market,
        source,
        membership=membership,
        sectors=sectors,
        train_end=train_end.date() if train_end else None,
        valid_end=valid_end.date() if valid_end else None,
        holdout=not no_holdout,
        layout=layout,
        tell=lambda line: typer.echo(line, err=True),
    )
    _tell_imported(snapshot, as_json=as_json)


def _tell_imported(snapshot: Snapshot, *, as_json: bool) -> None:
    with Records.open(Settings().records_url) as records:
        records.audit.add(operator(), "market.imported", snapshot.id)
    _print_snapshots([snapshot], as_json=as_json)


def _print_snapshots(snapshots: list[Snapshot], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([display.snapshot_facts(snapshot) for snapshot in snapshots], indent=2, default=str))
    else:
        display.snapshots(Console(), snapshots)

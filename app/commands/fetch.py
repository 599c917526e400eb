"""``alphaagent data fetch``: live market data, as a folder that can be imported."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from factors.errors import SettingError
from factors.prose import first_few, on_one_line
from storage.sources.fetch import Fetched, claim, fetch
from storage.sources.source import SourceName, open_source


def fetch_data(
    library: Annotated[SourceName, typer.Argument(metavar="SOURCE", help="yfinance, baostock, akshare or ccxt.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where each symbol has a CSV file.")],
    symbols: Annotated[str, typer.Option(help="A,B,C, or a text file with one a line (@FILE).")],
    start: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"])],
    end: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The last day; yesterday by default.")
    ] = None,
    exchange: Annotated[str | None, typer.Option(help="Of ccxt, for example binance.")] = None,
) -> None:
    """Fetch daily bars into a folder, or carry it on; ready to be imported. Exit status 1 if a symbol failed."""
    if end is not None and end < start:
        raise SettingError(f"--end {end:%Y-%m-%d} is before --start {start:%Y-%m-%d}")
    wanted = _symbols(symbols)
    source = open_source(library, exchange)
    work = fetch(source, folder, wanted, start.date(), end.date() if end else None)
    claim(folder, source=library, exchange=exchange, start=f"{start:%Y-%m-%d}")
    done = []
    with _telling(len(wanted)) as tell:
        for fetched in work:
            done.append(fetched)
            tell(fetched)
    failed = [each.symbol for each in done if each.error is not None]
    unfinished = [each.symbol for each in done if each.unfinished]
    if unfinished:
        typer.echo(f"left out, as the day is not over where they are traded: the last bar of {first_few(unfinished)}")
    typer.echo(
        f"{len(done) - len(failed)} of {len(done)} symbols are up to date in {folder}, "
        f"with {sum(each.added for each in done):,} new bars"
    )
    if failed:
        typer.echo(f"failed: {first_few(failed)}; the same command again goes on with them")
        raise typer.Exit(1)


def _symbols(text: str) -> list[str]:
    path = Path(text.removeprefix("@"))
    if text.startswith("@") or path.is_file():
        try:
            parts = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise SettingError(f"{path} is not text in UTF-8") from error
    else:
        parts = text.split(",")
    found = list(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if not found:
        raise SettingError(f"{text!r} names no symbols")
    return found


@contextmanager
def _telling(total: int) -> Iterator["_Telling"]:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.fields[symbol]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("symbols · {task.fields[bars]:,} new bars"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield _Telling(progress, total)


class _Telling:
    """A bar on a terminal, a line for each symbol elsewhere; what failed is a line everywhere."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._bars = 0
        self._task = progress.add_task("fetch", total=total, symbol="", bars=0)

    def __call__(self, fetched: Fetched) -> None:
        self._bars += fetched.added
        self._progress.update(self._task, advance=1, symbol=fetched.symbol, bars=self._bars)
        if fetched.error is not None:
            self._say(f"{fetched.symbol}: failed: {on_one_line(fetched.error)}")
        elif not self._progress.console.is_terminal:
            anew = ", written anew as earlier bars are told otherwise now" if fetched.anew else ""
            self._say(f"{fetched.symbol}: {fetched.bars:,} bars to {fetched.last}, {fetched.added:,} new{anew}")

    def _say(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

"""Markets whose hold-out the search cannot see and the benchmark can: each is published twice from the same source.

The market that is mined is like anybody's, its hold-out sealed. The other has none: its train ends where the mined
one's valid ends, so that its valid split is exactly the mined one's hold-out.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Protocol

from app.panels import load_panel
from factors.demo_market import DemoMarket
from factors.evaluator import Evaluator
from factors.metrics import split_metrics
from factors.parse import parse
from storage.ingest import import_market
from storage.markets import Snapshot, publish

SHARED_DATA = Path(os.environ.get("ALPHAAGENT_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


class Publish(Protocol):
    """Makes a source's rows a market; all but the splits is bound."""

    def __call__(
        self, root: Path, name: str, *, train_end: date, valid_end: date | None = None, holdout: bool = True
    ) -> Snapshot:
        """Arguments as those of :func:`storage.markets.publish`."""


@dataclass(frozen=True, slots=True)
class Source:
    """Rows of a market, and where its splits end."""

    name: str
    publish: Publish
    train_end: date
    valid_end: date


@dataclass(frozen=True, slots=True)
class Pair:
    """One source's two markets.

    Attributes:
        mined: with its hold-out sealed.
        truth: the same bars and no hold-out; its valid split is the other's hold-out.
    """

    mined: Snapshot
    truth: Snapshot

    def rank_ics(self, formulas: Iterable[str]) -> list[float]:
        """Each formula's rank IC over the mined market's hold-out, 0 where no day has one; its first universe."""
        panel, labels = load_panel(self.truth, self.truth.universe(None))
        evaluator = Evaluator(panel)
        found = []
        for formula in formulas:
            with evaluator.values(parse(formula, tuple(panel.fields))) as values:
                found.append(split_metrics(values, labels, panel, evaluator.team)["valid"].rank_ic or 0.0)
        return found


def published(source: Source, home: Path) -> Pair:
    """Publish both markets of a source in a home."""
    return Pair(
        source.publish(home, source.name, train_end=source.train_end, valid_end=source.valid_end),
        source.publish(home, f"{source.name}-truth", train_end=source.valid_end, holdout=False),
    )


def demo(market: DemoMarket, name: str = "demo") -> Source:
    """The synthetic market."""
    stored: Publish = partial(
        publish, bars=market.bars, membership=market.membership, sectors=market.sectors, synthetic=True
    )
    return Source(name, stored, market.train_end, market.valid_end)


def us(folder: Path = SHARED_DATA) -> Source | None:
    """Daily bars of the S&P 500's members with hold-out from 2019; ``None`` where the folder does not hold them."""
    return _real("us", "us_sectors", folder)


def cn(folder: Path = SHARED_DATA) -> Source | None:
    """The same of the CSI 300's members."""
    return _real("cn", "cn_industry", folder)


def _real(name: str, sector_table: str, folder: Path) -> Source | None:
    tables = f"{name}_daily_dev", f"{name}_membership", sector_table
    files = [folder / f"{table}.parquet" for table in tables]
    if not all(path.is_file() for path in files):
        return None
    bars, membership, sectors = files
    imported: Publish = partial(import_market, source=bars, membership=membership, sectors=sectors)
    return Source(name, imported, date(2016, 12, 31), date(2018, 12, 31))

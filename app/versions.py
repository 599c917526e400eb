"""The versions of a market: which there are, what uses them, and how those that are not needed are removed."""

from collections.abc import Collection
from dataclasses import asdict
from datetime import UTC, date, datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict

from app.settings import Settings
from storage.census import Uses
from storage.markets import InUseError, open_market, prune, versions
from storage.principal import Principal
from storage.records import Records


class MarketVersion(BaseModel):
    """A version of a market and what uses it; counts and dates are of the bars in sample.

    Attributes:
        id: of its content.
        current: whether new runs are on it.
        imported_at: when it was last imported, UTC.
        first_date: of the first bar.
        last_date: of the last bar.
        train_end: the last day of train.
        valid_end: the last day of valid.
        has_holdout: whether what comes after is kept, sealed.
        instruments: symbols with a bar.
        rows: bars.
        open_runs: runs that wait for it or work on it; while there are any it is not removed.
        runs: all runs on it.
        trials: formulas that were measured on it, which the ledger keeps without it.
        factors: of the library that were accepted on it; without it none of them can be promoted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    current: bool
    imported_at: AwareDatetime
    first_date: date
    last_date: date
    train_end: date
    valid_end: date
    has_holdout: bool
    instruments: int
    rows: int
    open_runs: int
    runs: int
    trials: int
    factors: int


def market_versions(settings: Settings, records: Records, market: str) -> list[MarketVersion]:
    """The versions of a market: the current one, then the others, the last imported first.

    Raises:
        SettingError: ``market`` cannot be a market's name.
        NotFoundError: there is no such market.
    """
    current = open_market(settings.home, market)
    imported, uses = records.audit.last("market.imported"), records.census.uses(market)
    found = []
    for one in versions(settings.home, market):
        facts = {name: getattr(one, name) for name in MarketVersion.model_fields if hasattr(one, name)}
        # Not every way to a market is logged.
        at = imported.get(one.id) or datetime.fromtimestamp(one.path.stat().st_mtime, UTC)
        used = asdict(uses.get(one.id, Uses()))
        found.append(MarketVersion(**facts, current=one.id == current.id, imported_at=at, **used))
    return sorted(found, key=lambda one: (one.current, one.imported_at), reverse=True)


def prune_version(settings: Settings, records: Records, market: str, version: str, by: Principal) -> None:
    """Remove a version: what is known of runs, trials and factors stays, and until which day it was in sample.

    Raises:
        SettingError: ``market`` cannot be a market's name.
        NotFoundError: no such market or version.
        InUseError: it is the current one, or a run waits for it or works on it.
    """
    prune(settings.home, market, version, lambda: check_unused(records, market, [version]))
    records.audit.add(by, "version.pruned", version)


def check_unused(records: Records, market: str, wanted: Collection[str]) -> None:
    """Raise ``InUseError`` where a run waits for one of these versions or works on it."""
    uses = records.census.uses(market)
    for version in wanted:
        count = uses.get(version, Uses()).open_runs
        if count:
            runs = "run waits for it or works" if count == 1 else "runs wait for it or work"
            raise InUseError(f"version {version} of market {market!r} is in use: {count} {runs} on it")

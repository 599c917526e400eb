"""The synthetic market that all engines are measured on: seeded, ragged as real ones are, and free to pass around.

Prices are random walks with a common factor. Of the instruments 35 % are listed late and 12 % are delisted; about 1 %
of the bars between are missing in runs of a few days. A missing bar is null in every field.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from storage.markets import Snapshot, publish

Dense: TypeAlias = NDArray[np.float64]  #: ``[days, instruments]``, NaN where null

FIELDS = ("open", "high", "low", "close", "volume", "vwap", "ret")
LATE, DELISTED, SUSPENDED = 0.35, 0.12, 0.01
LONGEST_SUSPENSION = 10
FIRST_DAY = date(2014, 1, 1)


@dataclass(frozen=True, slots=True)
class Size:
    """How large a market is."""

    instruments: int
    days: int

    @property
    def cells(self) -> int:
        """Days times instruments."""
        return self.instruments * self.days


SIZES = {"S": Size(500, 2500), "M": Size(5000, 2500)}
CHECK = Size(400, 400)  #: small, for comparing values before anything is timed


@dataclass(frozen=True, slots=True)
class Market:
    """Dense fields and what is to be predicted.

    Attributes:
        fields: ``open high low close volume vwap`` and ``ret``, the one-day return.
        label: ``close[t+2] / close[t+1] - 1``, null unless both are known.
    """

    fields: Mapping[str, Dense]
    label: Dense

    @property
    def size(self) -> Size:
        """Instruments and days."""
        days, instruments = self.label.shape
        return Size(instruments, days)

    def save(self, folder: Path) -> None:
        """Write each array to a file of its own, from which :func:`load` maps it."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, values in (*self.fields.items(), ("label", self.label)):
            np.save(folder / f"{name}.npy", values)
        (folder / "fields.json").write_text(json.dumps(list(self.fields)), encoding="ascii")

    def frame(self) -> pl.DataFrame:
        """``date``, ``symbol`` and the fields, one row a bar, sorted by date and symbol; null is null."""
        row, lane = np.nonzero(np.isfinite(self.fields["close"]))
        days = pl.Series(calendar(self.size.days))
        symbols = pl.Series(names(self.size.instruments), dtype=pl.String)
        return pl.DataFrame(
            {
                "date": days.gather(row),
                "symbol": symbols.gather(lane),
                **{name: pl.Series(values[row, lane]).fill_nan(None) for name, values in self.fields.items()},
            }
        )


def calendar(days: int) -> list[date]:
    """That many weekdays."""
    weekdays = (FIRST_DAY + timedelta(days=day) for day in range(2 * days))
    return [day for day in weekdays if day.weekday() < 5][:days]  # noqa: PLR2004 - Saturday is 5


def names(instruments: int) -> list[str]:
    """Symbols whose order as text is their order."""
    return [f"I{number:04}" for number in range(instruments)]


def synthetic(size: Size, *, seed: int = 7, complete: bool = False) -> Market:
    """The market of that size and seed; a ``complete`` one has every bar."""
    generator = np.random.default_rng(seed)
    shape = (size.days, size.instruments)
    fields = _prices(generator, shape)
    if not complete:
        absent = ~_listed(generator, shape) | _suspended(generator, shape)
        for values in fields.values():
            values[absent] = np.nan
    close = fields["close"]
    fields["ret"] = np.full(shape, np.nan)
    fields["ret"][1:] = close[1:] / close[:-1] - 1.0
    label = np.full(shape, np.nan)
    label[:-2] = close[2:] / close[1:-1] - 1.0
    return Market(fields, label)


def load(folder: Path) -> Market:
    """Map a saved market; its pages are shared by all processes that read it."""
    arrays = {
        name: np.load(folder / f"{name}.npy", mmap_mode="r")
        for name in (*json.loads((folder / "fields.json").read_text(encoding="ascii")), "label")
    }
    label = arrays.pop("label")
    return Market(arrays, label)


def store(market: Market, root: Path, name: str) -> Snapshot:
    """Publish the market in the project's own storage."""
    return publish(root, name, market.frame(), holdout=False, synthetic=True)


def _prices(generator: np.random.Generator, shape: tuple[int, int]) -> dict[str, Dense]:
    days, instruments = shape
    spread = generator.uniform(0.008, 0.03, instruments)
    noise = generator.standard_normal(shape)
    noise *= spread
    noise += generator.standard_normal((days, 1)) * 0.008
    close = np.exp(np.cumsum(noise, axis=0)) * generator.uniform(5, 200, instruments)
    gap = generator.standard_normal(shape) * 0.004
    before = np.vstack([close[:1], close[:-1]])
    opened = before * np.exp(gap)
    high = np.maximum(opened, close) * np.exp(np.abs(generator.standard_normal(shape)) * 0.005)
    low = np.minimum(opened, close) * np.exp(-np.abs(generator.standard_normal(shape)) * 0.005)
    vwap = low + (high - low) * generator.uniform(0.2, 0.8, shape)
    volume = np.exp(generator.standard_normal(shape) * 0.5 + np.abs(noise) / spread * 0.3 + 13.0)
    return {"open": opened, "high": high, "low": low, "close": close, "volume": volume, "vwap": vwap}


def _listed(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """From the first to the last bar; late listings and delistings are drawn independently."""
    days, instruments = shape
    first = np.zeros(instruments, np.int64)
    last = np.full(instruments, days)
    late = generator.permutation(instruments)[: round(LATE * instruments)]
    gone = generator.permutation(instruments)[: round(DELISTED * instruments)]
    first[late] = generator.integers(1, int(0.6 * days), len(late))
    last[gone] = generator.integers(int(0.7 * days), days, len(gone))
    day = np.arange(days)[:, None]
    return (day >= first) & (day < last)


def _suspended(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.bool_]:
    days, instruments = shape
    runs = round(SUSPENDED * days * instruments / ((1 + LONGEST_SUSPENSION) / 2))
    start = generator.integers(0, days, runs)
    lane = generator.integers(0, instruments, runs)
    length = generator.integers(1, LONGEST_SUSPENSION + 1, runs)
    missing = np.zeros(shape, np.bool_)
    for offset in range(LONGEST_SUSPENSION):
        open_runs = (offset < length) & (start + offset < days)
        missing[start[open_runs] + offset, lane[open_runs]] = True
    return missing

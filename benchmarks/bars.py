"""Bars as vendors deliver them, made up: seeded, some instruments at a time, and laid out as files.

Prices have two decimals, volumes none. Instruments split where they have become dear, and merge their shares where they
have become cheap; every second pays a dividend each quarter, and ``adj_factor`` knows of all that. One bar in a hundred
is missing.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.market import Dense, Size, calendar, synthetic

CHUNK: Final = 250  #: instruments that are in memory at a time
MISSING: Final = 0.01
COMMON: Final = 0.012  #: what all instruments share of a day's move, a standard deviation
QUARTER: Final = 63
DIVIDEND: Final = 0.005
DEAR, CHEAP = 300.0, 4.0
SPLIT, MERGER = 4.0, 0.1


def chunks(size: Size, *, seed: int = 7) -> Iterator[pl.DataFrame]:
    """The bars of some instruments at a time: ``date``, ``symbol``, prices and volume as traded, ``adj_factor``."""
    days = pl.Series(calendar(size.days))
    market = np.exp(np.cumsum(np.random.default_rng(seed).normal(0.0, COMMON, (size.days, 1)), axis=0))
    for first in range(0, size.instruments, CHUNK):
        part = Size(min(CHUNK, size.instruments - first), size.days)
        yield _bars(part, first, days, market, np.random.default_rng([seed, first]))


def _bars(size: Size, first: int, days: pl.Series, market: Dense, generator: np.random.Generator) -> pl.DataFrame:
    fields = synthetic(size, seed=int(generator.integers(1 << 32)), complete=True).fields
    adjusted = {name: fields[name] * market for name in ("open", "high", "low", "close")}
    factor = _factors(adjusted["close"], generator)
    row, lane = np.nonzero((generator.random(factor.shape) >= MISSING).T)[::-1]
    prices = {name: np.maximum((values / factor).round(2), 0.01) for name, values in adjusted.items()}
    symbols = pl.Series([f"S{number:06}" for number in range(first, first + size.instruments)])
    return pl.DataFrame(
        {
            "date": days.gather(row),
            "symbol": symbols.gather(lane),
            **{name: values[row, lane] for name, values in prices.items()},
            "volume": (fields["volume"] * factor)[row, lane].round().astype(np.int64),
            "adj_factor": factor[row, lane],
        }
    )


def _factors(adjusted: Dense, generator: np.random.Generator) -> Dense:
    """Adjusted over traded price: what keeps the latter in its usual range."""
    factors = np.ones_like(adjusted)
    pays = generator.random(adjusted.shape[1]) < 0.5  # noqa: PLR2004 - every second
    phase = generator.integers(0, QUARTER, adjusted.shape[1])
    for day in range(1, len(adjusted)):
        factor = factors[day - 1]
        price = adjusted[day - 1] / factor
        step = np.where(price > DEAR, SPLIT, np.where(price < CHEAP, MERGER, 1.0))
        step *= np.where(pays & ((day + phase) % QUARTER == 0), 1 + DIVIDEND, 1.0)
        factors[day] = np.where(step == 1.0, factor, (factor * step).round(9))
    return factors


def write_long(parts: Iterable[pl.DataFrame], path: Path, last: date, after: Path) -> int:
    """A Parquet file of the bars up to a day, and one of those after it; returns the bytes of the former in memory."""
    folder = path.with_suffix(".parts")
    folder.mkdir()
    size, later = 0.0, []
    for number, bars in enumerate(parts):
        kept = bars.filter(pl.col("date") <= last)
        size += kept.estimated_size()
        later.append(bars.filter(pl.col("date") > last))
        kept.write_parquet(folder / f"{number:06}.parquet")
    pl.scan_parquet(folder / "*.parquet").sink_parquet(path)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    pl.concat(later).write_parquet(after)
    return int(size)


Lay: TypeAlias = Callable[[pl.DataFrame], pl.DataFrame]


def _each(parts: Iterable[pl.DataFrame], folder: Path, stop: int, lay: Lay) -> int:
    folder.mkdir()
    size = 0
    for bars in parts:
        for [symbol], own in bars.group_by("symbol", maintain_order=True):
            path = folder / f"{symbol}.csv"
            lay(own).write_csv(path)
            size += path.stat().st_size
            if size >= stop:
                return size
    return size


def write_csv(parts: Iterable[pl.DataFrame], folder: Path, *, stop: int) -> int:
    """A CSV file for each symbol, until there are so many bytes; returns how many there are."""
    return _each(parts, folder, stop, lambda bars: bars.drop("symbol"))


def write_baostock(parts: Iterable[pl.DataFrame], folder: Path, *, stop: int) -> int:
    """The same with the columns of baostock, which tells of adjustments by the close before."""
    before = (pl.col("close") * pl.col("adj_factor")).shift(1) / pl.col("adj_factor")
    return _each(
        parts,
        folder,
        stop,
        lambda bars: bars.select(
            "date",
            pl.col("symbol").alias("code"),
            *("open", "high", "low", "close", "volume"),
            before.fill_null(pl.col("close")).round(4).alias("preclose"),
            pl.lit(1).alias("tradestatus"),
            pl.lit(3).alias("adjustflag"),
        ),
    )


def write_qlib(parts: Iterable[pl.DataFrame], folder: Path, days: list[date], *, stop: int) -> int:
    """The tree of a qlib data set, as :func:`write_csv`."""
    (folder / "calendars").mkdir(parents=True)
    (folder / "calendars" / "day.txt").write_text("".join(f"{day}\n" for day in days), encoding="ascii")
    place = {day: number for number, day in enumerate(days)}
    size = 0
    for bars in parts:
        for [symbol], own in bars.group_by("symbol", maintain_order=True):
            row = own["date"].replace_strict(place, return_dtype=pl.Int64).to_numpy()
            size += _write_fields(folder / "features" / str(symbol).lower(), own, row)
            if size >= stop:
                return size
    return size


def _write_fields(folder: Path, bars: pl.DataFrame, row: NDArray[np.int64]) -> int:
    folder.mkdir(parents=True)
    factor = bars["adj_factor"].to_numpy()
    size = 0
    for name in ("open", "high", "low", "close", "volume", "factor"):
        own = factor if name == "factor" else bars[name].to_numpy()
        adjusted = own if name == "factor" else own / factor if name == "volume" else own * factor
        laid = np.full(row[-1] - row[0] + 2, np.nan, "<f4")
        laid[0] = row[0]
        laid[row - row[0] + 1] = adjusted
        size += (folder / f"{name}.day.bin").write_bytes(laid.tobytes())
    return size

"""The metrics of engines that have none: the best that NumPy and that Polars can do, whichever is faster.

Daily IC, rank IC with average ties, mean label of the value's deciles, and turnover of the rank-weighted book, over
the cells where value and label are known.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.market import Dense, Market

DECILES = 10
THREADS = 2
ROWS = 64  #: days at a time, so that a block of 500 names stays in the second-level cache

Series: TypeAlias = NDArray[np.float64]


class Daily(NamedTuple):
    """Daily series ``[days]``, and decile means ``[days, 10]``, NaN for null."""

    ic: Series
    rank_ic: Series
    deciles: Dense
    turnover: Series


class Metrics:
    """Metrics of one market's factors."""

    def __init__(self, market: Market) -> None:
        self._label = np.array(market.label)
        self._pool = ThreadPoolExecutor(THREADS)
        example = np.array(market.fields["close"])
        self._dense = _fastest({"NumPy": self.numpy, "Polars": lambda values: self.polars(self.long(values))}, example)
        self._long = _fastest(
            {"NumPy": lambda frame: self.numpy(self.dense(frame)), "Polars": self.polars}, self.long(example)
        )

    @property
    def chosen(self) -> str:
        """Which library was faster on dense and on long values."""
        return (
            self._dense[0] if self._dense[0] == self._long[0] else f"{self._dense[0]} (dense), {self._long[0]} (long)"
        )

    def of_dense(self, values: Dense) -> Daily:
        """Metrics of ``[days, instruments]`` values."""
        return self._dense[1](values)

    def of_long(self, frame: pl.DataFrame) -> Daily:
        """Metrics of a frame with ``row``, ``lane`` and ``value``, in any order."""
        return self._long[1](frame)

    def dense(self, frame: pl.DataFrame) -> Dense:
        """``[days, instruments]`` values of such a frame."""
        out = np.full(self._label.shape, np.nan)
        out[frame["row"].to_numpy(), frame["lane"].to_numpy()] = frame["value"].cast(pl.Float64).fill_null(np.nan)
        return out

    def long(self, values: Dense) -> pl.DataFrame:
        """The known cells as such a frame."""
        row, lane = np.nonzero(np.isfinite(values))
        return pl.DataFrame({"row": row, "lane": lane, "value": values[row, lane]})

    def numpy(self, values: Dense) -> Daily:
        """By blocks of days, sorted by rows; two threads."""
        days = len(values)
        # A block starts a day early: turnover needs the book of the day before.
        blocks = [slice(max(start - 1, 0), min(start + ROWS, days)) for start in range(0, days, ROWS)]
        parts = list(self._pool.map(lambda rows: _block(values[rows], self._label[rows]), blocks))
        return Daily(*(
            np.concatenate([part[field][min(rows.start, 1) :] for rows, part in zip(blocks, parts, strict=True)])
            for field in range(4)
        ))  # fmt: skip

    def polars(self, frame: pl.DataFrame) -> Daily:
        """By group-wise expressions over the long frame."""
        cells = frame["row"].to_numpy(), frame["lane"].to_numpy()
        value = pl.when(pl.col("value").is_finite()).then(pl.col("value"))
        known = (
            frame.lazy()
            .select(
                pl.col("row").cast(pl.Int32).alias("day"),
                pl.col("lane").cast(pl.Int32),
                value,
                pl.Series(self._label[cells]).fill_nan(None).alias("label"),
            )
            .drop_nulls()
            .with_columns(rank=pl.col("value").rank().over("day"), count=pl.len().over("day"))
            .with_columns(
                decile=(pl.col("rank") / pl.col("count") * DECILES).ceil().cast(pl.Int8) - 1,
                weight=pl.col("rank") - (pl.col("count") + 1) / 2,
            )
            .with_columns(weight=pl.col("weight") / pl.col("weight").abs().sum().over("day"))
            .collect()
        )
        ics = known.group_by("day").agg(
            ic=pl.corr("value", "label"), rank_ic=pl.corr(pl.col("rank"), pl.col("label").rank())
        )
        deciles = known.group_by("day", "decile").agg(pl.col("label").mean())
        held = known.select("day", "lane", "weight")
        bought = held.join(held.with_columns(pl.col("day") + 1), on=["day", "lane"], how="full", coalesce=True)
        turnover = (
            bought.with_columns(change=(pl.col("weight").fill_null(0) - pl.col("weight_right").fill_null(0)).abs())
            .group_by("day")
            .agg(pl.col("change").sum() / 2)
        )
        days = len(self._label)
        out = Daily(
            np.full(days, np.nan), np.full(days, np.nan), np.full((days, DECILES), np.nan), np.full(days, np.nan)
        )
        out.ic[ics["day"]] = ics["ic"].fill_null(np.nan)
        out.rank_ic[ics["day"]] = ics["rank_ic"].fill_null(np.nan)
        out.deciles[deciles["day"], deciles["decile"]] = deciles["label"]
        has_book = np.zeros(days + 1, np.bool_)
        has_book[ics["day"]] = True
        day = turnover["day"].to_numpy()
        both = has_book[day] & has_book[day - 1] & (day > 0)
        out.turnover[day[both]] = turnover["change"].to_numpy()[both]
        return out


def _fastest(ways: dict[str, Callable[..., Daily]], values: object) -> tuple[str, Callable[..., Daily]]:
    """The way that takes the shortest time on these values, by name."""
    seconds = {}
    for name, way in ways.items():
        way(values)
        started = time.perf_counter()
        way(values)
        seconds[name] = time.perf_counter() - started
    best = min(seconds, key=seconds.__getitem__)
    return best, ways[best]


def _block(values: Dense, label: Dense) -> Daily:
    known = np.isfinite(values) & np.isfinite(label)
    count = known.sum(axis=1)
    value_rank, label_rank = _ranks(values, known, count), _ranks(label, known, count)
    with np.errstate(all="ignore"):
        weight = np.where(known, value_rank - (count[:, None] + 1) / 2, 0.0)
        weight /= np.abs(weight).sum(axis=1, keepdims=True)
        turnover = np.full(len(values), np.nan)
        turnover[1:] = np.abs(np.diff(weight, axis=0)).sum(axis=1) / 2
        decile = np.ceil(value_rank / count[:, None] * DECILES)
        return Daily(
            _correlations(values, label, known, count),
            _correlations(value_rank, label_rank, known, count),
            _means(decile, label, known),
            turnover,
        )


def _ranks(values: Dense, known: NDArray[np.bool_], count: NDArray[np.int64]) -> Dense:
    """Ranks from 1 of each row's known cells, ties averaged; anything elsewhere."""
    keys = np.where(known, values, np.inf)
    order = np.argsort(keys, axis=1)
    ordered = np.take_along_axis(keys, order, axis=1)
    position = np.arange(1.0, values.shape[1] + 1)
    ranks = np.empty_like(keys)
    same = ordered[:, 1:] == ordered[:, :-1]
    same &= np.arange(1, values.shape[1]) < count[:, None]
    np.put_along_axis(ranks, order, np.broadcast_to(position, keys.shape), axis=1)
    for row in np.nonzero(same.any(axis=1))[0]:
        starts = np.flatnonzero(np.concatenate([[True], ~same[row]]))
        lengths = np.diff(np.append(starts, len(position)))
        ranks[row, order[row]] = np.repeat(starts + (lengths + 1) / 2, lengths)
    return ranks


def _correlations(x: Dense, y: Dense, known: NDArray[np.bool_], count: NDArray[np.int64]) -> Series:
    a, b = np.where(known, x, 0.0), np.where(known, y, 0.0)
    a -= (a.sum(axis=1) / count)[:, None]
    b -= (b.sum(axis=1) / count)[:, None]
    a *= known
    b *= known
    xy, xx, yy = (np.einsum("ij,ij->i", p, q) for p, q in ((a, b), (a, a), (b, b)))
    return np.asarray(xy / np.sqrt(xx * yy))


def _means(decile: Dense, label: Dense, known: NDArray[np.bool_]) -> Dense:
    rows = np.broadcast_to(np.arange(len(label))[:, None], label.shape)[known]
    cell = rows * DECILES + decile[known].astype(np.int64) - 1
    total = np.bincount(cell, label[known], len(label) * DECILES)
    return np.asarray(total / np.bincount(cell, minlength=len(label) * DECILES)).reshape(len(label), DECILES)

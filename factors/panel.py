"""Panel: a market's in-sample bars as dense arrays, laid out for the kernels.

Instruments are cut into tiles of 64 lanes, ``[tiles, rows, 64]`` float64 with NaN for null, so that a rolling kernel
walks one tile's history while it is in cache and uses every lane of a vector register. Rows are the market's calendar:
every date, or time of a day, at which any instrument has a bar. They are the unit of every window and horizon. There
are none between two sessions: before the first bar of a day comes the last one of the day before.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from factors.kernels.elementwise import Values
from factors.kernels.layout import mark, scatter
from factors.kernels.rolling import pct_change
from factors.kernels.tile import LANES
from factors.team import Team

KEYS = ("date", "symbol", "suspended", "member", "sector")
_NO_BAR = 255

Mask = NDArray[np.bool_]
Groups = NDArray[np.int16]
Dates = NDArray[np.datetime64]


@dataclass(frozen=True, slots=True)
class Cells:
    """Bars as a database delivers them, each with its place in the panel; no null anywhere.

    Attributes:
        fields: names of the numeric columns.
        tables: parts of a table, which are read once: one row a bar with ``row`` and ``lane`` (int32), ``sector``
            (int16, -1 for none), ``suspended`` (uint8), and the fields, float64, prices adjusted, NaN where missing.
            Suspended is whatever may not be traded on that bar, at its price limit too.
        members: who belongs to the universe when: ``lane`` and a half-open range of rows, ``start`` to ``stop``, int32.
        dates: the calendar, by row: dates, or naive local times of the exchange, each of a bar of the day it falls on.
        symbols: the instruments, by lane, counted over all tiles.
        settlement: days of the calendar after which what was bought may be sold, the same day for 0.
        delisting: by lane, the return after its last bar, a fraction, -1 for a total loss, NaN where none is known;
            ``None`` where none of any instrument is.
    """

    fields: Sequence[str]
    tables: Iterable[pl.DataFrame]
    members: pl.DataFrame
    dates: pl.Series
    symbols: pl.Series
    settlement: int = 0
    delisting: pl.Series | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """One market as the evaluator reads it; every array is ``[tiles, rows, 64]`` unless said otherwise.

    Attributes:
        dates: ``[rows]`` calendar, ascending: ``datetime64[D]``, or ``datetime64[us]`` where bars have times.
        symbols: instrument of each lane, lane ``i`` of tile ``i // 64``.
        fields: adjusted columns by name; ``return`` is the close-to-close return, derived where the market has none.
        bar: the instrument has a bar.
        tradable: it has a bar, a close, and is not suspended.
        eligible: tradable members, the cells that may hold a position.
        universe: int16, 0 for members of the universe, else -1.
        sectors: int16 sector code of members, -1 for non-members and instruments without a sector.
        first_row: ``[tiles, 64]`` first row with a bar; ``rows`` where there is none.
        splits: half-open row ranges by name, ``train`` then ``valid``; those of :meth:`held_out`, ``holdout`` alone.
        settlement: days after which what was bought may be sold; see :func:`factors.labels.exits`.
        delisting: ``[tiles, 64]`` return after the last bar, a fraction, NaN where none is known.
    """

    dates: Dates
    symbols: tuple[str, ...]
    fields: Mapping[str, Values]
    bar: Mask
    tradable: Mask
    eligible: Mask
    universe: Groups
    sectors: Groups
    first_row: NDArray[np.int64]
    splits: Mapping[str, tuple[int, int]]
    settlement: int
    delisting: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(tiles, rows, 64)``."""
        return self.bar.shape[0], self.bar.shape[1], LANES

    @classmethod
    def from_bars(
        cls, bars: pl.DataFrame, train_end: date, settlement: int = 0, delisting: Mapping[str, float] | None = None
    ) -> "Panel":
        """Lay out bars in any order.

        Args:
            bars: one row a bar: ``date``, ``symbol``, ``suspended``, ``member``, ``sector`` and numeric columns, the
                prices adjusted; (date, symbol) unique. What they mean, and ``settlement``, is told at :class:`Cells`.
            train_end: last day of the train split, with all its bars; the later ones are the valid split.
            settlement: days after which what was bought may be sold.
            delisting: returns after their last bars, by symbol; other symbols than the bars' are passed over.
        """
        dates, symbols = bars["date"].unique().sort(), bars["symbol"].unique().sort()
        sectors = bars["sector"].drop_nulls().unique().sort()
        numbers = pl.all().cast(pl.Float64)
        cells = (
            bars.drop(KEYS)
            .select(pl.when(numbers.is_finite()).then(numbers).otherwise(np.nan))
            .with_columns(
                dates.search_sorted(bars["date"]).cast(pl.Int32).alias("row"),
                _codes(bars["symbol"], symbols).cast(pl.Int32).alias("lane"),
                _codes(bars["sector"], sectors).cast(pl.Int16).alias("sector"),
                bars["suspended"].cast(pl.UInt8),
            )
        )
        row = pl.col("row")
        members = cells.filter(bars["member"]).select("lane", row.alias("start"), (row + 1).alias("stop"))
        fields = bars.drop(KEYS).columns
        last = [(delisting or {}).get(symbol, np.nan) for symbol in symbols]
        returns = pl.Series(last, dtype=pl.Float64)
        return cls.from_cells(Cells(fields, [cells.rechunk()], members, dates, symbols, settlement, returns), train_end)

    @classmethod
    def from_cells(cls, cells: Cells, train_end: date, team: Team | None = None) -> "Panel":
        """Lay out bars whose places are known; ``train_end`` as in :meth:`from_bars`."""
        team, dates = team or Team(1), _calendar(cells.dates)
        shape = (-(-len(cells.symbols) // LANES), len(dates), LANES)
        fields = {name: np.empty(shape) for name in cells.fields}
        suspended, sectors = np.empty(shape, np.uint8), np.empty(shape, np.int16)
        columns: dict[str, NDArray[Any]] = {**fields, "suspended": suspended, "sector": sectors}
        absent = {"suspended": _NO_BAR, "sector": -1}
        team.each(lambda name: columns[name].fill(absent.get(name, np.nan)), columns)
        for table in cells.tables:
            team.each(partial(_lay, table, columns), columns)
        member = np.zeros(shape, np.bool_)
        lanes, starts, stops = (cells.members[name].to_numpy() for name in ("lane", "start", "stop"))
        mark(lanes, starts, stops, member)
        derived = {} if "return" in fields else {"return": np.empty(shape)}
        bar, tradable, eligible = (np.empty(shape, np.bool_) for _ in range(3))
        universe, first_row = np.empty(shape, np.int16), np.empty((shape[0], LANES), np.int64)

        def complete(tile: int) -> None:
            close = fields["close"][tile]
            np.not_equal(suspended[tile], _NO_BAR, out=bar[tile])
            member[tile] &= bar[tile]
            np.logical_and(suspended[tile] == 0, np.isfinite(close), out=tradable[tile])
            np.logical_and(tradable[tile], member[tile], out=eligible[tile])
            np.subtract(member[tile], 1, out=universe[tile], dtype=np.int16)
            sectors[tile][~member[tile]] = -1
            first_row[tile] = np.where(bar[tile].any(axis=0), bar[tile].argmax(axis=0), len(dates))
            for values in derived.values():
                pct_change(close, 1, values[tile])

        team.each(complete, range(shape[0]))
        delisting = np.full((shape[0], LANES), np.nan)
        if cells.delisting is not None:
            delisting.reshape(-1)[: len(cells.symbols)] = cells.delisting.to_numpy()
        split = rows_through(dates, train_end)
        return cls(
            dates=dates,
            symbols=tuple(cells.symbols),
            fields=fields | derived,
            bar=bar,
            tradable=tradable,
            eligible=eligible,
            universe=universe,
            sectors=sectors,
            first_row=first_row,
            splits={"train": (0, split), "valid": (split, len(dates))},
            settlement=cells.settlement,
            delisting=delisting,
        )

    def held_out(self, last: date) -> "Panel":
        """The same with one split, ``holdout``: the bars of the days after ``last``."""
        return replace(self, splits={"holdout": (rows_through(self.dates, last), len(self.dates))})

    def frame(self, values: Values) -> pl.DataFrame:
        """``(date, symbol, value)``, one row a bar, sorted by date and symbol; a null value is null."""
        tiles, rows, _ = self.shape
        wide = values.transpose(1, 0, 2).reshape(rows, tiles * LANES)
        bar = self.bar.transpose(1, 0, 2).reshape(rows, tiles * LANES)
        row, lane = np.nonzero(bar)
        return pl.DataFrame(
            {
                "date": pl.Series(self.dates).gather(row),
                "symbol": pl.Series(self.symbols, dtype=pl.String).gather(lane),
                "value": pl.Series(wide[row, lane], dtype=pl.Float64).fill_nan(None),
            }
        )


def rows_through(dates: Dates, day: date) -> int:
    """How many rows of a calendar are bars of a day or of those before it."""
    return int(np.searchsorted(dates, np.datetime64(day, "D") + 1))


def _calendar(dates: pl.Series) -> Dates:
    if dates.dtype == pl.Date:
        return dates.to_numpy().astype("datetime64[D]")
    if isinstance(dates.dtype, pl.Datetime) and dates.dtype.time_zone is None:
        return dates.to_numpy().astype("datetime64[us]")
    raise ValueError(f"bars have dates, or times of the exchange without a time zone, not {dates.dtype}")


def _lay(table: pl.DataFrame, columns: Mapping[str, NDArray[Any]], name: str) -> None:
    """Write a column to its places, chunk by chunk as it came."""
    parts = (table[column].get_chunks() for column in (name, "row", "lane"))
    for chunk in zip(*parts, strict=True):
        values, rows, lanes = (part.to_numpy() for part in chunk)
        if not len(values) == len(rows) == len(lanes):
            raise ValueError("the columns of a table must be cut into chunks alike")
        scatter(values, rows, lanes, columns[name])


def _codes(column: pl.Series, names: pl.Series) -> pl.Series:
    """Position of each value in the sorted unique names, -1 for null."""
    return column.replace_strict(names, pl.arange(len(names), eager=True, dtype=pl.Int64), default=-1)

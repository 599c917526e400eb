"""Panel: a market's in-sample bars as dense arrays, laid out for the kernels.

Instruments are cut into tiles of 64 lanes, ``[tiles, rows, 64]`` float64 with NaN for null, so that a rolling kernel
walks one tile's history while it is in cache and uses every lane of a vector register. Rows are the market's calendar:
every date on which any instrument has a bar.
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
        members: who belongs to the universe when: ``lane`` and a half-open range of rows, ``start`` to ``stop``, int32.
        dates: the calendar, by row.
        symbols: the instruments, by lane, counted over all tiles.
    """

    fields: Sequence[str]
    tables: Iterable[pl.DataFrame]
    members: pl.DataFrame
    dates: pl.Series
    symbols: pl.Series


@dataclass(frozen=True, slots=True)
class Panel:
    """One market as the evaluator reads it; every array is ``[tiles, rows, 64]`` unless said otherwise.

    Attributes:
        dates: ``[rows]`` calendar, ascending.
        symbols: instrument of each lane, lane ``i`` of tile ``i // 64``.
        fields: adjusted columns by name; ``return`` is the close-to-close return, derived where the market has none.
        bar: the instrument has a bar.
        tradable: it has a bar, a close, and is not suspended.
        eligible: tradable members, the cells that may hold a position.
        universe: int16, 0 for members of the universe, else -1.
        sectors: int16 sector code of members, -1 for non-members and instruments without a sector.
        first_row: ``[tiles, 64]`` first row with a bar; ``rows`` where there is none.
        splits: half-open row ranges by name, ``train`` then ``valid``; those of :meth:`held_out`, ``holdout`` alone.
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

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(tiles, rows, 64)``."""
        return self.bar.shape[0], self.bar.shape[1], LANES

    @classmethod
    def from_bars(cls, bars: pl.DataFrame, train_end: date) -> "Panel":
        """Lay out bars in any order.

        Args:
            bars: one row a bar: ``date``, ``symbol``, ``suspended``, ``member``, ``sector`` and numeric columns, the
                prices adjusted; (date, symbol) unique.
            train_end: last date of the train split; the later dates are the valid split.
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
        return cls.from_cells(Cells(fields, [cells.rechunk()], members, dates, symbols), train_end)

    @classmethod
    def from_cells(cls, cells: Cells, train_end: date, team: Team | None = None) -> "Panel":
        """Lay out bars whose places are known; ``train_end`` as in :meth:`from_bars`."""
        team, dates = team or Team(1), cells.dates
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
        split = int(dates.search_sorted(train_end, side="right"))
        return cls(
            dates=dates.to_numpy().astype("datetime64[D]"),
            symbols=tuple(cells.symbols),
            fields=fields | derived,
            bar=bar,
            tradable=tradable,
            eligible=eligible,
            universe=universe,
            sectors=sectors,
            first_row=first_row,
            splits={"train": (0, split), "valid": (split, len(dates))},
        )

    def held_out(self, last: date) -> "Panel":
        """The same with one split, ``holdout``: the dates after ``last``."""
        first = int(np.searchsorted(self.dates, np.datetime64(last), side="right"))
        return replace(self, splits={"holdout": (first, len(self.dates))})

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

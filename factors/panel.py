"""Panel: a market's in-sample bars as dense arrays, laid out for the kernels.

Instruments are cut into tiles of 64 lanes, ``[tiles, rows, 64]`` float64 with NaN for null, so that a rolling kernel
walks one tile's history while it is in cache and uses every lane of a vector register. Rows are the market's calendar:
every date on which any instrument has a bar.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
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
_PLACES = ("row", "lane", "sector", "suspended")

Mask = NDArray[np.bool_]
Groups = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Cells:
    """Bars as a database delivers them, each with its place in the panel; no null anywhere.

    Attributes:
        table: one row a bar: ``row`` and ``lane`` (int32), ``sector`` (int16, -1 for none), ``suspended`` (uint8), and
            the fields, float64, prices adjusted, NaN where missing.
        members: who belongs to the universe when: ``lane`` and a half-open range of rows, ``start`` to ``stop``, int32.
        dates: the calendar, by row.
        symbols: the instruments, by lane, counted over all tiles.
    """

    table: pl.DataFrame
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
        splits: half-open row ranges by name, ``train`` then ``valid``.
    """

    dates: NDArray[np.datetime64]
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
        return cls.from_cells(Cells(cells.rechunk(), members, dates, symbols), train_end)

    @classmethod
    def from_cells(cls, cells: Cells, train_end: date, team: Team | None = None) -> "Panel":
        """Lay out bars whose places are known; ``train_end`` as in :meth:`from_bars`."""
        table, dates = cells.table, cells.dates
        shape = (-(-len(cells.symbols) // LANES), len(dates), LANES)
        fields = {name: np.empty(shape) for name in table.columns if name not in _PLACES}
        suspended, sector = np.empty(shape, np.uint8), np.empty(shape, np.int16)
        team = team or Team(1)
        team.each(lambda name: _lay(table, name, fields[name], np.nan), fields)
        _lay(table, "suspended", suspended, _NO_BAR)
        _lay(table, "sector", sector, -1)
        member = np.zeros(shape, np.bool_)
        lanes, starts, stops = (cells.members[name].to_numpy() for name in ("lane", "start", "stop"))
        mark(lanes, starts, stops, member)
        if "return" not in fields:
            fields["return"] = np.empty(shape)
            team.each(lambda tile: pct_change(fields["close"][tile], 1, fields["return"][tile]), range(shape[0]))
        bar = suspended != _NO_BAR
        member &= bar
        tradable = (suspended == 0) & np.isfinite(fields["close"])
        split = int(dates.search_sorted(train_end, side="right"))
        return cls(
            dates=dates.to_numpy().astype("datetime64[D]"),
            symbols=tuple(cells.symbols),
            fields=fields,
            bar=bar,
            tradable=tradable,
            eligible=tradable & member,
            universe=member.astype(np.int16) - np.int16(1),
            sectors=np.where(member, sector, np.int16(-1)),
            first_row=np.where(bar.any(axis=1), bar.argmax(axis=1), len(dates)),
            splits={"train": (0, split), "valid": (split, len(dates))},
        )

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


def _lay(table: pl.DataFrame, name: str, out: NDArray[Any], absent: float) -> None:
    """Write a column to its places, chunk by chunk as it came, and ``absent`` where it has none."""
    out.fill(absent)
    columns = (table[column].get_chunks() for column in (name, "row", "lane"))
    for chunk in zip(*columns, strict=True):
        values, rows, lanes = (part.to_numpy() for part in chunk)
        if not len(values) == len(rows) == len(lanes):
            raise ValueError("the columns of a table must be cut into chunks alike")
        scatter(values, rows, lanes, out)


def _codes(column: pl.Series, names: pl.Series) -> pl.Series:
    """Position of each value in the sorted unique names, -1 for null."""
    return column.replace_strict(names, pl.arange(len(names), eager=True, dtype=pl.Int64), default=-1)

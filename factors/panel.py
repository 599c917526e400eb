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
from factors.kernels.rolling import pct_change
from factors.kernels.tile import LANES

KEYS = ("date", "symbol", "suspended", "member", "sector")

Mask = NDArray[np.bool_]
Groups = NDArray[np.int16]


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
        """Lay out bars.

        Args:
            bars: one row a bar: ``date``, ``symbol``, ``suspended``, ``member``, ``sector`` and numeric columns, the
                prices adjusted. No other row order than any; (date, symbol) unique.
            train_end: last date of the train split; the later dates are the valid split.
        """
        dates = bars["date"].unique().sort()
        symbols = bars["symbol"].unique().sort()
        rows = dates.search_sorted(bars["date"]).to_numpy()
        lanes = _codes(bars["symbol"], symbols)
        shape = (-(-len(symbols) // LANES), len(dates), LANES)
        cells = (lanes // LANES, rows, lanes % LANES)

        def spread(values: NDArray[Any], absent: NDArray[Any]) -> NDArray[Any]:
            out = np.full(shape, absent)
            out[cells] = values
            return out

        fields: dict[str, Values] = {
            name: spread(_finite(bars[name]), np.array(np.nan)) for name in bars.columns if name not in KEYS
        }
        no = np.zeros((), np.bool_)
        bar = spread(np.ones((), np.bool_), no)
        if "return" not in fields:
            fields["return"] = np.empty(shape)
            for tile in range(shape[0]):
                pct_change(fields["close"][tile], 1, fields["return"][tile])
            fields["return"][~np.isfinite(fields["return"])] = np.nan
        member = spread(bars["member"].to_numpy(), no)
        suspended = spread(bars["suspended"].to_numpy(), no)
        names = bars["sector"].drop_nulls().unique().sort()
        sector = spread(_codes(bars["sector"], names).astype(np.int16), np.array(-1, np.int16))
        tradable = bar & ~suspended & np.isfinite(fields["close"])
        split = int(dates.search_sorted(train_end, side="right"))
        return cls(
            dates=dates.to_numpy().astype("datetime64[D]"),
            symbols=tuple(symbols),
            fields=fields,
            bar=bar,
            tradable=tradable,
            eligible=tradable & member,
            universe=np.where(member, 0, -1).astype(np.int16),
            sectors=np.where(member, sector, -1).astype(np.int16),
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


def _finite(column: pl.Series) -> Values:
    values = column.cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def _codes(column: pl.Series, names: pl.Series) -> NDArray[np.int64]:
    """Position of each value in the sorted unique names, -1 for null."""
    codes = column.replace_strict(names, pl.arange(len(names), eager=True, dtype=pl.Int64), default=-1)
    return codes.to_numpy()

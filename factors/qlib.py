"""Bars as a qlib data set holds them: for each symbol and field, float32 from a day of the calendar on.

Source: ``qlib.data.storage.file_storage``. The first number of a file is the place of its first day in the calendar.
Prices are adjusted, and volume inversely; the field ``factor`` is an adjusted price over the one that was traded.
"""

from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from factors.columns import PRICES
from factors.errors import DataError
from factors.frame import Frame

Values = NDArray[np.float64]


def unpacked(symbol: str, files: Mapping[str, bytes], calendar: Sequence[date]) -> Frame:
    """The bars of a symbol: ``date``, ``symbol``, its fields as they were traded, and ``adj_factor``.

    Days without a close are left out.

    Args:
        symbol: whose.
        files: what is in the file of each field, ``close`` among them.
        calendar: the days that places stand for.

    Raises:
        DataError: a file does not hold days of the calendar.
    """
    parts = {name: _part(f"{symbol} {name}", raw, len(calendar)) for name, raw in files.items()}
    first = min(start for start, _ in parts.values())
    days = max(start + len(values) for start, values in parts.values()) - first
    fields = {name: _laid(start - first, values, days) for name, (start, values) in parts.items()}
    factor, traded = fields.pop("factor", np.ones(days)), np.isfinite(fields["close"])
    for name, values in fields.items():
        if name in PRICES:
            fields[name] = values / factor
        elif name == "volume":
            fields[name] = values * factor
    columns = {"date": calendar[first : first + days], **fields, "adj_factor": factor}
    return pl.DataFrame(columns).filter(pl.Series(traded)).with_columns(symbol=pl.lit(symbol))


def _part(name: str, raw: bytes, days: int) -> tuple[int, Values]:
    """The place of the first day, and the values from there on."""
    cells = np.frombuffer(raw[: len(raw) // 4 * 4], "<f4").astype(np.float64)
    if len(raw) % 4 or not len(cells) or not 0 <= cells[0] <= days - len(cells) + 1 or cells[0] % 1:
        raise DataError(f"{name}: does not hold days of the calendar")
    return int(cells[0]), cells[1:]


def _laid(first: int, values: Values, days: int) -> Values:
    laid = np.full(days, np.nan)
    laid[first : first + len(values)] = values
    return laid

"""Symbols whose dates are shifted against the market's: they move with it, but on other days."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from factors.frame import Frame

Values = NDArray[np.float64]

_LEAST: Final = 200  # days that two series must share for their correlation to mean anything
_LESS: Final = 0.7  # as dated; more than none, as the symbol is a part of the market
_CERTAIN: Final = 6.0  # standard errors; the greatest of some thousand correlations by chance is about four


@dataclass(frozen=True, slots=True)
class Shift:
    """That a symbol moves with the market ``days`` of the calendar later than its dates say.

    Attributes:
        symbol: whose dates.
        days: how many; negative where it moves earlier.
        correlation: with the market's moves so many days later.
        as_dated: the same with those of the same day.
    """

    symbol: str
    days: int
    correlation: float
    as_dated: float


def shifts(moves: Frame) -> list[Shift] | None:
    """The symbols whose dates are shifted, ``None`` where there are too few days or symbols to say.

    The market moves as the median symbol does. A symbol is compared with it at every shift that leaves enough days, by
    the correlation of ranks, which one great day cannot make, over the days that both have (masked normalised
    cross-correlation, Padfield 2012, eq. 15).

    Args:
        moves: ``date``, ``symbol`` and ``move``, a logarithmic return, null where it has none.
    """
    wide = moves.pivot(on="symbol", index="date", values="move").sort("date").drop("date")
    if wide.width < 2 or wide.height < _LEAST:  # noqa: PLR2004 - one symbol is its own market
        return None
    daily = moves.group_by("date").agg(pl.col("move").median()).sort("date")
    market = _ranked(daily["move"])
    found = []
    for symbol in wide.columns:
        own = _ranked(wide[symbol])
        correlation, shared = _correlations(own, market)
        here = len(own) - 1
        sure = np.where(shared >= _LEAST, correlation * np.sqrt(shared), -np.inf)
        best = int(np.argmax(sure))
        if sure[best] > _CERTAIN and correlation[here] < _LESS * correlation[best]:
            found.append(Shift(symbol, best - here, float(correlation[best]), float(correlation[here])))
    return found


def _ranked(moves: pl.Series) -> Values:
    """Ranks between -1/2 and 1/2, NaN where there is no move."""
    ranks = moves.rank() / (moves.count() + 1) - 0.5
    return ranks.cast(pl.Float64).to_numpy()


def _correlations(own: Values, market: Values) -> tuple[Values, Values]:
    """For each shift from -(n - 1) to n - 1: the correlation with the market so much later, and how many days share."""
    size = 1 << (2 * len(own) - 1).bit_length()

    def spectra(values: Values) -> list[NDArray[np.complex128]]:
        there = np.isfinite(values)
        filled = np.where(there, values, 0.0)
        scaled = filled / (filled.std() or 1.0)
        return [np.fft.rfft(each, size) for each in (there.astype(np.float64), scaled, scaled**2)]

    def summed(one: NDArray[np.complex128], other: NDArray[np.complex128]) -> Values:
        """At place ``n - 1 + k`` the sum over days t of one[t] * other[t + k]."""
        whole = np.fft.irfft(np.conj(one) * other, size)
        return np.concatenate([whole[-(len(own) - 1) :], whole[: len(own)]])

    (there, x, xx), (there_too, y, yy) = spectra(own), spectra(market)
    count = np.rint(summed(there, there_too))
    days = np.maximum(count, 1.0)
    sum_x, sum_y = summed(x, there_too), summed(there, y)
    spread_x = summed(xx, there_too) - sum_x**2 / days
    spread_y = summed(there, yy) - sum_y**2 / days
    spread = np.sqrt(np.maximum(spread_x, 0.0) * np.maximum(spread_y, 0.0))
    shared = summed(x, y) - sum_x * sum_y / days
    return np.divide(shared, spread, out=np.zeros_like(spread), where=spread > 1e-9 * days), count

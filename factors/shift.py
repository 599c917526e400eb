"""Symbols whose dates are shifted against the market's, on daily bars: they move with it, but on other days."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import fft
from scipy.special import ndtri

from factors.frame import Frame

Values = NDArray[np.float64]
Spectrum = NDArray[np.complex128]

_LEAST: Final = 200  # days that two series must share for their correlation to mean anything
_LESS: Final = 0.7  # as dated; more than none, as the symbol is a part of the market
_CERTAIN: Final = 6.0  # standard errors at least: more than what is drawn at random, as moves depend on each other
_CHANCE: Final = 1e-4  # that one of all correlations of a market is taken for a shift
_CLOSE: Final = 0.7  # of what is certain, for a rough look to be followed by an exact one


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


@dataclass(frozen=True, slots=True)
class Batch:
    """How some symbols move, all their days.

    Attributes:
        symbols: their names.
        moves: ``place`` in ``symbols``, ``day``, the row of the market, and ``move``, a logarithmic return, null where
            there is none; in any order.
    """

    symbols: list[str]
    moves: Frame


def shifts(market: Frame, batches: Iterable[Batch], symbols: int) -> list[Shift] | None:
    """The symbols whose dates are shifted, ``None`` where there are too few days or symbols to say.

    A symbol is compared with the market at every shift that leaves enough days, by the correlation of ranks, which one
    great day cannot make, over the days that both have (masked normalised cross-correlation, Padfield 2012, eq. 15).
    How large it must be grows with the number of correlations that are looked at (Bonferroni).
    A rough look, which takes ranks to be spread alike wherever two series overlap, spares most symbols that.

    Args:
        market: ``move``, that of the median symbol, null where there is none; a row for each day, in order.
        batches: the moves of all symbols.
        symbols: how many there are.
    """
    days = len(market)
    if days < _LEAST or symbols == 1:  # one symbol is its own market
        return None
    certain = _certain(symbols * (2 * days - 1))
    found = []
    [whole] = _ranked(market["move"].cast(pl.Float64).fill_null(np.nan).to_numpy()[None, :])
    spectra = _spectra(whole)
    for batch in batches:
        table = _ranked(_laid_out(batch, days))
        for place in np.flatnonzero(_perhaps(table, whole, certain)):
            one = _shift(batch.symbols[place], table[place], spectra, certain)
            found += [one] if one else []
    return found


def _certain(correlations: int) -> float:
    """Standard errors of which so many correlations by chance are rarely one."""
    return max(_CERTAIN, float(-ndtri(_CHANCE / correlations)))


def _ranked(table: Values) -> Values:
    """Of each row the ranks between -1/2 and 1/2, ties averaged, NaN where it is NaN."""
    rank = (pl.all().rank() / (pl.all().count() + 1) - 0.5).cast(pl.Float64)
    return pl.from_numpy(table.T).fill_nan(None).select(rank).to_numpy().T


def _laid_out(batch: Batch, days: int) -> Values:
    """``[symbols, days]``, NaN where there is no move."""
    table = np.full((len(batch.symbols), days), np.nan)
    moves = batch.moves.drop_nulls()
    table[moves["place"].to_numpy(), moves["day"].to_numpy()] = moves["move"].to_numpy()
    return table


def _perhaps(table: Values, market: Values, certain: float) -> NDArray[np.bool_]:
    """Whether a row may move with the market on other days, so far as sums of products tell."""
    days = table.shape[1]
    there = np.isfinite(table)
    first, last = there.argmax(axis=1)[:, None], days - 1 - there[:, ::-1].argmax(axis=1)[:, None]
    count = there.sum(axis=1)[:, None]
    size = fft.next_fast_len(2 * days - 1, real=True)
    rows, whole = (np.nan_to_num(values).astype(np.float32) for values in (table, market))
    sums = _in_order(fft.irfft(np.conj(fft.rfft(rows, size)) * fft.rfft(whole, size), size), days)
    later = np.arange(1 - days, days)
    shared = np.minimum(last + later, days - 1) - np.maximum(first + later, 0) + 1
    spread = np.sqrt((rows**2).sum(axis=1, keepdims=True) / np.maximum(count, 1) * np.nanmean(market**2))
    error = np.sqrt(np.maximum(shared, 1) * count / (last - first + 1)) * spread
    sure = np.divide(sums, error, out=np.full(sums.shape, -np.inf), where=(shared >= _LEAST) & (error > 0))
    as_dated = sure[:, days - 1].copy()
    sure[:, days - 1] = -np.inf
    return np.asarray(sure.max(axis=1) > _CLOSE * np.maximum(as_dated, certain))


def _shift(symbol: str, own: Values, market: list[Spectrum], certain: float) -> Shift | None:
    correlation, shared = _correlations(_spectra(own), market, len(own))
    here = len(own) - 1
    sure = np.where(shared >= _LEAST, correlation * np.sqrt(shared), -np.inf)
    best = int(np.argmax(sure))
    if sure[best] > certain and correlation[here] < _LESS * correlation[best]:
        return Shift(symbol, best - here, float(correlation[best]), float(correlation[here]))
    return None


def _spectra(values: Values) -> list[Spectrum]:
    """Of which values are there, of the values, scaled, and of their squares."""
    there = np.isfinite(values)
    filled = np.where(there, values, 0.0)
    scaled = filled / (filled.std() or 1.0)
    size = fft.next_fast_len(2 * len(values) - 1, real=True)
    return [fft.rfft(each, size) for each in (there.astype(np.float64), scaled, scaled**2)]


def _in_order(sums: Values, days: int) -> Values:
    """What a convolution leaves, for each shift from -(days - 1) to days - 1."""
    return np.concatenate([sums[..., sums.shape[-1] - days + 1 :], sums[..., :days]], axis=-1)


def _correlations(own: list[Spectrum], market: list[Spectrum], days: int) -> tuple[Values, Values]:
    """For each shift from -(n - 1) to n - 1: the correlation with the market so much later, and how many days share."""
    size = fft.next_fast_len(2 * days - 1, real=True)

    def summed(one: Spectrum, other: Spectrum) -> Values:
        """At place ``n - 1 + k`` the sum over days t of one[t] * other[t + k]."""
        return _in_order(fft.irfft(np.conj(one) * other, size), days)

    (there, x, xx), (there_too, y, yy) = own, market
    count = np.rint(summed(there, there_too))
    shared = np.maximum(count, 1.0)
    sum_x, sum_y = summed(x, there_too), summed(there, y)
    spread_x = summed(xx, there_too) - sum_x**2 / shared
    spread_y = summed(there, yy) - sum_y**2 / shared
    spread = np.sqrt(np.maximum(spread_x, 0.0) * np.maximum(spread_y, 0.0))
    together = summed(x, y) - sum_x * sum_y / shared
    return np.divide(together, spread, out=np.zeros_like(spread), where=spread > 1e-9 * shared), count

"""Cross-sectional kernels of a whole distribution; see ``cross_section`` for the tiles.

Cells whose ``group`` is not negative take part and are one population: these are not divided into sectors.
"""

import numpy as np

from factors.kernels.compile import kernel
from factors.kernels.elementwise import Values
from factors.kernels.rolling import TIE

_STD, _SKEW, _KURT = 2, 3, 4


def std(x: Values, group: Values, out: Values) -> None:
    """Standard deviation (ddof 1) of the date; 0 where all values are equal."""
    _dispersion(x, group, _STD, out)


def skew(x: Values, group: Values, out: Values) -> None:
    """Adjusted Fisher-Pearson skewness G1 of the date; null where all values are equal."""
    _dispersion(x, group, _SKEW, out)


def kurt(x: Values, group: Values, out: Values) -> None:
    """Adjusted excess kurtosis G2 of the date; null where all values are equal."""
    _dispersion(x, group, _KURT, out)


@kernel
def _gather(x, group, t, values, cells):
    """Collect the day's known cells that take part; return their number. The day's ``out`` is theirs to fill."""
    blocks, _, lanes = x.shape
    n = 0
    for b in range(blocks):
        for j in range(lanes):
            values[n], cells[n] = x[b, t, j], b * lanes + j
            n += 1 if group[b, t, j] >= 0 and x[b, t, j] == x[b, t, j] else 0
    return n


@kernel
def _moment(values, order):
    """Standard deviation (order 2), G1 (order 3) or G2 (order 4) of known values, in two passes.

    The unit is the largest deviation, so powers of huge or tiny ones neither overflow nor vanish.
    """
    n, first, total, unit = len(values), values[0], 0.0, 0.0
    for v in values:
        total += v - first
    centre = first + total / n
    for v in values:
        unit = max(unit, abs(v - centre))
    if n < order or unit == 0.0:
        return 0.0 if n >= order and order == 2 else np.nan
    m1, m2, m3, m4 = 0.0, 0.0, 0.0, 0.0
    for v in values:
        e = (v - centre) / unit
        m1 += e
        m2 += e * e
        m3 += e * e * e
        m4 += e * e * e * e
    m2 -= m1 * m1 / n
    if order == 2:
        return np.sqrt(m2 / (n - 1.0)) * unit
    m2, m3, m4 = m2 / n, m3 / n, m4 / n
    if order == 3:
        return m3 / (m2 * np.sqrt(m2)) * np.sqrt(n * (n - 1.0)) / (n - 2.0)
    return (n - 1.0) / ((n - 2.0) * (n - 3.0)) * ((n + 1.0) * m4 / (m2 * m2) - 3.0 * (n - 1.0))


@kernel
def _dispersion(x, group, order, out):
    blocks, rows, lanes = x.shape
    values, cells = np.empty(blocks * lanes + 1), np.empty(blocks * lanes + 1, np.int64)
    out[:] = np.nan
    for t in range(rows):
        n = _gather(x, group, t, values, cells)
        value = _moment(values[:n], order) if n else np.nan
        for cell in cells[:n]:
            out[cell // lanes, t, cell % lanes] = value


@kernel
def _quantile(ordered, position):
    """Value at a fractional position of sorted values, linear between neighbours."""
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


@kernel
def median(x, group, out):
    """Median of the date."""
    blocks, rows, lanes = x.shape
    values, cells = np.empty(blocks * lanes + 1), np.empty(blocks * lanes + 1, np.int64)
    out[:] = np.nan
    for t in range(rows):
        n = _gather(x, group, t, values, cells)
        value = _quantile(np.sort(values[:n]), 0.5 * (n - 1)) if n else np.nan
        for cell in cells[:n]:
            out[cell // lanes, t, cell % lanes] = value


@kernel
def winsorize(x, group, q, out):
    """The value held between the date's quantiles q and 1 - q (Hyndman and Fan 1996, type 7)."""
    blocks, rows, lanes = x.shape
    values, cells = np.empty(blocks * lanes + 1), np.empty(blocks * lanes + 1, np.int64)
    out[:] = np.nan
    for t in range(rows):
        n = _gather(x, group, t, values, cells)
        if n:
            ordered = np.sort(values[:n])
            low, high = _quantile(ordered, q * (n - 1)), _quantile(ordered, (1.0 - q) * (n - 1))
            for k in range(n):
                out[cells[k] // lanes, t, cells[k] % lanes] = min(max(values[k], low), high)


@kernel
def bucket(x, group, buckets, out):
    """Number of the quantile bucket that holds the value, 1 to ``buckets``, as pandas.qcut gives it.

    Bucket k reaches from quantile (k - 1)/n to k/n, its upper edge included. Neighbours within 1e-12 relative are tied
    and share the bucket of the lowest.
    """
    blocks, rows, lanes = x.shape
    values, cells = np.empty(blocks * lanes + 1), np.empty(blocks * lanes + 1, np.int64)
    out[:] = np.nan
    for t in range(rows):
        n = _gather(x, group, t, values, cells)
        order = np.argsort(values[:n])
        first = 0
        for k in range(n):
            if k > 0:
                low, high = values[order[k - 1]], values[order[k]]
                first = first if high - low <= TIE * max(abs(low), abs(high)) else k
            cell = cells[order[k]]
            # The first integer not below first * buckets / (n - 1).
            number = (first * buckets + n - 2) // max(n - 1, 1)
            out[cell // lanes, t, cell % lanes] = max(number, 1)

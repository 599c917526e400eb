"""Time-series kernels over one tile: ``x`` is float64 ``[T, L]``, rows are bars, lanes are instruments, NaN is null.

Each fills ``out`` of the same shape. The window at row t is rows t-d+1..t, fewer at the start; nulls in it are skipped,
and it needs at least one value (two for dispersion and correlation, three for skewness, four for kurtosis).

Sums use blocks of d rows: a window is the suffix of one block and the prefix of the next (van Herk 1992, for minima).
Nothing is ever subtracted from a running sum, so nothing drifts, and a value touches only the windows that hold it.
Dispersion is summed about a local anchor; where cancellation would still cost digits, the cell is redone in two passes.
"""

import math

import numpy as np

from factors.kernels.compile import kernel
from factors.kernels.elementwise import Values, clean
from factors.kernels.moments import comoments, higher_moments, moments
from factors.kernels.order import TIE

_STD, _VAR, _ZSCORE = 0, 1, 2
_CORR, _COV, _SLOPE, _RESIDUAL = 0, 1, 2, 3


def delay(x: Values, d: int, out: Values) -> None:
    """The value d rows ago."""
    out[:d] = np.nan
    out[d:] = x[: max(len(x) - d, 0)]


def delta(x: Values, d: int, out: Values) -> None:
    """The value less the one d rows ago."""
    delay(x, d, out)
    np.subtract(x, out, out=out)
    clean(out)


def pct_change(x: Values, d: int, out: Values) -> None:
    """The value over the one d rows ago, minus 1; null where that is 0."""
    delay(x, d, out)
    with np.errstate(all="ignore"):
        np.divide(x, out, out=out)
    out -= 1.0
    clean(out)


def total(x: Values, d: int, out: Values) -> None:
    """Sum of the window."""
    _sums(x, d, 0, out)


def mean(x: Values, d: int, out: Values) -> None:
    """Mean of the window."""
    _sums(x, d, 1, out)


def std(x: Values, d: int, out: Values) -> None:
    """Standard deviation (ddof 1)."""
    moments(x, d, _STD, out)


def var(x: Values, d: int, out: Values) -> None:
    """Variance (ddof 1)."""
    moments(x, d, _VAR, out)


def zscore(x: Values, d: int, out: Values) -> None:
    """Distance from the window's mean in standard deviations; null where all values are equal."""
    moments(x, d, _ZSCORE, out)


def skew(x: Values, d: int, out: Values) -> None:
    """Adjusted Fisher-Pearson skewness G1 (Joanes and Gill 1998)."""
    higher_moments(x, d, 3, out)


def kurt(x: Values, d: int, out: Values) -> None:
    """Adjusted excess kurtosis G2 (Joanes and Gill 1998)."""
    higher_moments(x, d, 4, out)


def corr(x: Values, y: Values, d: int, out: Values) -> None:
    """Pearson correlation over the rows where both are known; null where either is constant."""
    comoments(x, y, d, _CORR, out)


def cov(x: Values, y: Values, d: int, out: Values) -> None:
    """Covariance (ddof 1) over the rows where both are known."""
    comoments(x, y, d, _COV, out)


def count(x: Values, d: int, out: Values) -> None:
    """Number of known values other than 0."""
    _sums(np.where(np.isnan(x), np.nan, (x != 0).astype(np.float64)), d, 0, out)


def regression_slope(y: Values, x: Values, d: int, out: Values) -> None:
    """Slope of the least-squares line of y on x over the rows where both are known; null where x is constant."""
    comoments(x, y, d, _SLOPE, out)


def regression_residual(y: Values, x: Values, d: int, out: Values) -> None:
    """Distance of the current y from that line; null where y or x is."""
    comoments(x, y, d, _RESIDUAL, out)


def minimum(x: Values, d: int, out: Values) -> None:
    """Smallest value of the window."""
    _extremes(x, d, -1.0, out)


def maximum(x: Values, d: int, out: Values) -> None:
    """Largest value of the window."""
    _extremes(x, d, 1.0, out)


def argmin(x: Values, d: int, out: Values) -> None:
    """Rows since the window's oldest smallest value."""
    _positions(x, d, -1.0, out)


def argmax(x: Values, d: int, out: Values) -> None:
    """Rows since the window's oldest largest value."""
    _positions(x, d, 1.0, out)


def median(x: Values, d: int, out: Values) -> None:
    """Median of the window."""
    _quantiles(x, d, 0.5, out)


def quantile(x: Values, d: int, q: float, out: Values) -> None:
    """Quantile of the window, linear between neighbours (Hyndman and Fan 1996, type 7)."""
    _quantiles(x, d, q, out)


@kernel
def _sums(x, d, average, out):
    rows, lanes = x.shape
    suffix, suffix_n = np.zeros((d + 1, lanes)), np.zeros((d + 1, lanes))
    total, n = np.empty(lanes), np.empty(lanes)
    for start in range(0, rows, d):
        if start:
            total[:] = 0.0
            n[:] = 0.0
            for i in range(d - 1, 0, -1):
                for j in range(lanes):
                    v = x[start - d + i, j]
                    total[j] += v if v == v else 0.0
                    n[j] += 1.0 if v == v else 0.0
                    suffix[i, j] = total[j]
                    suffix_n[i, j] = n[j]
        total[:] = 0.0
        n[:] = 0.0
        for i in range(min(d, rows - start)):
            for j in range(lanes):
                v = x[start + i, j]
                total[j] += v if v == v else 0.0
                n[j] += 1.0 if v == v else 0.0
                known = n[j] + suffix_n[i + 1, j]
                value = total[j] + suffix[i + 1, j]
                value = value / known if average else value
                out[start + i, j] = value if known > 0.0 and abs(value) < np.inf else np.nan


@kernel
def _extremes(x, d, sense, out):
    rows, lanes = x.shape
    suffix = np.full((d + 1, lanes), -np.inf)
    best = np.empty(lanes)
    for start in range(0, rows, d):
        if start:
            best[:] = -np.inf
            for i in range(d - 1, 0, -1):
                for j in range(lanes):
                    v = sense * x[start - d + i, j]
                    best[j] = v if v > best[j] else best[j]
                    suffix[i, j] = best[j]
        best[:] = -np.inf
        for i in range(min(d, rows - start)):
            for j in range(lanes):
                v = sense * x[start + i, j]
                best[j] = v if v > best[j] else best[j]
                older = suffix[i + 1, j]
                value = older if older > best[j] else best[j]
                out[start + i, j] = sense * value if value > -np.inf else np.nan


@kernel
def _positions(x, d, sense, out):
    rows, lanes = x.shape
    suffix, suffix_row = np.full((d + 1, lanes), -np.inf), np.zeros((d + 1, lanes))
    best, row = np.empty(lanes), np.zeros(lanes)
    for start in range(0, rows, d):
        if start:
            best[:] = -np.inf
            for i in range(d - 1, 0, -1):
                for j in range(lanes):
                    v = sense * x[start - d + i, j]
                    older_wins = v >= best[j]
                    best[j] = v if older_wins else best[j]
                    row[j] = start - d + i if older_wins else row[j]
                    suffix[i, j] = best[j]
                    suffix_row[i, j] = row[j]
        best[:] = -np.inf
        for i in range(min(d, rows - start)):
            t = start + i
            for j in range(lanes):
                v = sense * x[t, j]
                newer_wins = v > best[j]
                best[j] = v if newer_wins else best[j]
                row[j] = t if newer_wins else row[j]
                older = suffix[i + 1, j]
                found = suffix_row[i + 1, j] if older >= best[j] else row[j]
                value = older if older > best[j] else best[j]
                out[t, j] = t - found if value > -np.inf else np.nan


@kernel
def rank(x, d, out):
    """Percentile rank in (0, 1] of the current value among the window's, ties averaged."""
    rows, lanes = x.shape
    below, n = np.empty(lanes), np.empty(lanes)
    for t in range(rows):
        below[:] = 0.5
        n[:] = 0.0
        for k in range(max(0, t - d + 1), t + 1):
            for j in range(lanes):
                v, now = x[k, j], x[t, j]
                n[j] += 1.0 if v == v else 0.0
                tied = abs(v - now) <= TIE * max(abs(v), abs(now))
                below[j] += 0.5 if tied else (1.0 if v < now else 0.0)
        for j in range(lanes):
            out[t, j] = below[j] / n[j] if x[t, j] == x[t, j] else np.nan


@kernel
def decay_linear(x, d, out):
    """Mean of the window with weights d, d-1, …, 1 from the newest row back, over the weights of known rows."""
    rows, lanes = x.shape
    total, weights = np.empty(lanes), np.empty(lanes)
    for t in range(rows):
        total[:] = 0.0
        weights[:] = 0.0
        for k in range(max(0, t - d + 1), t + 1):
            weight = float(d - (t - k))
            for j in range(lanes):
                v = x[k, j]
                total[j] += weight * v if v == v else 0.0
                weights[j] += weight if v == v else 0.0
        for j in range(lanes):
            value = total[j] / weights[j]
            out[t, j] = value if abs(value) < np.inf else np.nan


@kernel
def product(x, d, out):
    """Product of the window, kept as mantissa and exponent so that only the result can overflow."""
    rows, lanes = x.shape
    for t in range(rows):
        for j in range(lanes):
            mantissa, exponent, known = 1.0, 0, False
            for k in range(max(0, t - d + 1), t + 1):
                if x[k, j] == x[k, j]:
                    part, power = math.frexp(x[k, j])
                    mantissa *= part
                    exponent += power
                    known = True
            value = math.ldexp(mantissa, exponent)
            out[t, j] = value if known and abs(value) < np.inf else np.nan


@kernel
def mean_deviation(x, d, out):
    """Mean absolute deviation from the window's mean."""
    rows, lanes = x.shape
    for t in range(rows):
        for j in range(lanes):
            n, first, shift = 0, 0.0, 0.0
            for k in range(max(0, t - d + 1), t + 1):
                if x[k, j] == x[k, j]:
                    first = x[k, j] if n == 0 else first
                    shift += x[k, j] - first
                    n += 1
            total = 0.0
            for k in range(max(0, t - d + 1), t + 1):
                if x[k, j] == x[k, j]:
                    total += abs((x[k, j] - first) - shift / n)
            value = total / n
            out[t, j] = value if n > 1 and value < np.inf else np.nan


@kernel
def _quantiles(x, d, q, out):
    rows, lanes = x.shape
    window = np.empty(d + 1)
    for j in range(lanes):
        n = 0
        for t in range(rows):
            if t >= d and x[t - d, j] == x[t - d, j]:
                at = np.searchsorted(window[:n], x[t - d, j])
                for k in range(at, n - 1):
                    window[k] = window[k + 1]
                n -= 1
            v = x[t, j]
            if v == v:
                at = np.searchsorted(window[:n], v)
                for k in range(n, at, -1):
                    window[k] = window[k - 1]
                window[at] = v
                n += 1
            if n == 0:
                out[t, j] = np.nan
                continue
            position = q * (n - 1)
            low = int(position)
            high = min(low + 1, n - 1)
            share = position - low
            value = window[low] + (window[high] - window[low]) * share
            out[t, j] = value if abs(value) < np.inf else np.nan

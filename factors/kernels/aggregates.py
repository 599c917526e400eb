"""Cross-sectional kernels of a whole distribution; see ``cross_section`` for the days and segments."""

import numpy as np

from factors.kernels import segment
from factors.kernels.compile import kernel
from factors.kernels.cross_section import lay_day, read_day, write_day
from factors.kernels.elementwise import Values
from factors.kernels.moments import shape
from factors.kernels.order import tied

_STD, _SKEW, _KURT, _MEDIAN = 2, 3, 4, 5


def std(x: Values, group: Values, out: Values, start: int, stop: int) -> None:
    """Standard deviation (ddof 1) of the date; 0 where all values are equal."""
    _aggregate(x, group, _STD, out, start, stop)


def skew(x: Values, group: Values, out: Values, start: int, stop: int) -> None:
    """Adjusted Fisher-Pearson skewness G1 of the date; null where all values are equal."""
    _aggregate(x, group, _SKEW, out, start, stop)


def kurt(x: Values, group: Values, out: Values, start: int, stop: int) -> None:
    """Adjusted excess kurtosis G2 of the date; null where all values are equal."""
    _aggregate(x, group, _KURT, out, start, stop)


def median(x: Values, group: Values, out: Values, start: int, stop: int) -> None:
    """Median of the date."""
    _aggregate(x, group, _MEDIAN, out, start, stop)


@kernel
def _aggregate(x, group, statistic, out, start, stop):
    day, scratch = lay_day(x), segment.scratch(x.shape[0] * x.shape[2])
    for t in range(start, stop):
        values, starts = read_day(x, group, t, day)
        for g in range(len(starts) - 1):
            v = values[starts[g] : starts[g + 1]]
            if statistic == _STD:
                _, _, value = segment.deviation(v)
            elif statistic == _MEDIAN:
                n = segment.sort(v, scratch)
                value = _quantile(scratch[3], n, 0.5)
            else:
                value = _higher_moment(v, statistic)
            for i in range(len(v)):
                v[i] = value if v[i] == v[i] else np.nan
        write_day(values, starts, day, out, t)


@kernel
def _higher_moment(v, order):
    n, anchor = segment.count(v), segment.first_known(v)
    unit = segment.farthest(v, anchor)
    if n < order or unit == 0.0:
        return np.nan
    shift = segment.total(v, anchor) / n
    m1, m2, m3, m4 = 0.0, 0.0, 0.0, 0.0
    for i in range(len(v)):
        e = ((v[i] - anchor) - shift) / unit if v[i] == v[i] else 0.0
        m1 += e
        m2 += e * e
        m3 += e * e * e
        m4 += e * e * e * e
    return shape(order, float(n), (m2 - m1 * m1 / n) / n, m3 / n, m4 / n)


@kernel
def _quantile(ordered, n, q):
    """Quantile of n sorted values, linear between neighbours (Hyndman and Fan 1996, type 7)."""
    if n == 0:
        return np.nan
    position = q * (n - 1)
    low = int(position)
    high = min(low + 1, n - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


@kernel
def winsorize(x, group, q, out, start, stop):
    """The value held between the date's quantiles q and 1 - q."""
    day, scratch = lay_day(x), segment.scratch(x.shape[0] * x.shape[2])
    for t in range(start, stop):
        values, starts = read_day(x, group, t, day)
        for g in range(len(starts) - 1):
            v = values[starts[g] : starts[g + 1]]
            n = segment.sort(v, scratch)
            low, high = _quantile(scratch[3], n, q), _quantile(scratch[3], n, 1.0 - q)
            for i in range(len(v)):
                v[i] = min(max(v[i], low), high) if v[i] == v[i] else np.nan
        write_day(values, starts, day, out, t)


@kernel
def bucket(x, group, buckets, out, start, stop):
    """Number of the quantile bucket that holds the value, 1 to ``buckets``, as pandas.qcut gives it.

    Bucket k reaches from quantile (k - 1)/n to k/n, its upper edge included. Neighbours within 1e-12 relative are tied
    and share the bucket of the lowest.
    """
    day, scratch = lay_day(x), segment.scratch(x.shape[0] * x.shape[2])
    _, _, order, ordered, _ = scratch
    for t in range(start, stop):
        values, starts = read_day(x, group, t, day)
        for g in range(len(starts) - 1):
            v = values[starts[g] : starts[g + 1]]
            n, first = segment.sort(v, scratch), 0
            for k in range(n):
                first = first if k > 0 and tied(ordered[k - 1], ordered[k]) else k
                v[order[k]] = quantile_bucket(first, n, buckets)
        write_day(values, starts, day, out, t)


@kernel
def quantile_bucket(first, n, buckets):
    """The first integer not below ``first * buckets / (n - 1)``, at least 1, of the lowest place of a run of ties."""
    return max((first * buckets + n - 2) // max(n - 1, 1), 1)

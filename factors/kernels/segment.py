"""What cross-sectional operators do to one set of values of one day: ``[n]`` float64, NaN for null."""

import numpy as np

from factors.kernels.compile import kernel, reduction
from factors.kernels.order import TIE, ascend, tied, workspace

_LANES = 32
_SMALL, _LARGE = 1e-200, 1e200  # sums of squares outside are taken again in a unit near the values' own


@kernel
def scratch(size):
    """Room to rank segments of up to ``size`` values."""
    return (
        np.empty(size + 1),
        np.empty(size + 1, np.int32),
        np.empty(size, np.int32),
        np.empty(size),
        workspace(size),
    )


@reduction
def count(v):
    """Number of known values."""
    n = 0
    for i in range(len(v)):
        n += 1 if v[i] == v[i] else 0
    return n


@reduction
def total(v, centre):
    """Sum of the known values' distances from ``centre``."""
    s = 0.0
    for i in range(len(v)):
        s += v[i] - centre if v[i] == v[i] else 0.0
    return s


@reduction
def absolute_total(v, centre):
    """Sum of the known values' absolute distances from ``centre``."""
    s = 0.0
    for i in range(len(v)):
        s += abs(v[i] - centre) if v[i] == v[i] else 0.0
    return s


@reduction
def squares(v, centre, unit):
    """Sum of the known values' squared distances from ``centre``, in ``unit``."""
    s = 0.0
    for i in range(len(v)):
        e = (v[i] - centre) / unit if v[i] == v[i] else 0.0
        s += e * e
    return s


@kernel
def farthest(v, centre):
    """Largest distance of a known value from ``centre``, lane by lane: a maximum over nulls is no reduction."""
    far = np.zeros(_LANES)
    for i in range(0, len(v) - _LANES + 1, _LANES):
        part = v[i : i + _LANES]
        for j in range(_LANES):
            e = abs(part[j] - centre)
            far[j] = e if e > far[j] else far[j]
    largest = 0.0
    for j in range(_LANES):
        largest = far[j] if far[j] > largest else largest
    for i in range(len(v) // _LANES * _LANES, len(v)):
        e = abs(v[i] - centre)
        largest = e if e > largest else largest
    return largest


@kernel
def first_known(v):
    """The first known value; null where there is none."""
    for i in range(len(v)):
        if v[i] == v[i]:
            return v[i]
    return np.nan


@kernel
def mean(v):
    """Mean of the known values, summed about the first, so that equal values have exactly their own as mean."""
    anchor = first_known(v)
    return anchor + total(v, anchor) / count(v)


@kernel
def deviation(v):
    """(mean, standard deviation with ddof 1) of the known values; 0 where they are equal, null for fewer than two."""
    n, centre = count(v), mean(v)
    if n < 2 or farthest(v, first_known(v)) == 0.0:
        return centre, np.nan if n < 2 else 0.0
    unit = farthest(v, centre)
    return centre, unit * np.sqrt(squares(v, centre, unit) / (n - 1))


@reduction
def ties(ordered, n):
    """Number of neighbours that tie."""
    found = 0
    for i in range(n - 1):
        found += 1 if tied(ordered[i], ordered[i + 1]) else 0
    return found


@kernel
def average_ranks(ordered, n):
    """Replace ascending values by their ranks from 1, ties averaged."""
    if ties(ordered, n) == 0:
        for i in range(n):
            ordered[i] = i + 1.0
        return
    first = 0
    while first < n:
        last = first
        while last + 1 < n and tied(ordered[last], ordered[last + 1]):
            last += 1
        for k in range(first, last + 1):
            ordered[k] = (first + last) * 0.5 + 1.0
        first = last + 1


@kernel
def sort(v, scratch):
    """Sort the known values into the scratch: their cells, positions among these, and themselves; return the number."""
    values, cells, order, ordered, sorting = scratch
    n = gather(v, values, cells)
    ascend(values, n, order, ordered, sorting)
    return n


@kernel
def rank(v, scratch):
    """Percentile rank in (0, 1], ties averaged."""
    _, cells, order, ordered, _ = scratch
    n = sort(v, scratch)
    average_ranks(ordered, n)
    for i in range(n):
        ordered[i] /= n
    for i in range(n):
        v[cells[order[i]]] = ordered[i]


@kernel
def gather(v, values, cells):
    """Collect the known values and their places; one more is written than kept."""
    n = 0
    for i in range(len(v)):
        value = v[i]
        values[n] = value + 0.0
        cells[n] = i
        n += int(value == value)
    return n


@kernel
def correlation(x, y):
    """Pearson correlation of known values; null for fewer than two or where all of one side tie."""
    if len(x) < 2:
        return np.nan
    unit_x, unit_y = farthest(x, x[0]), farthest(y, y[0])
    if unit_x <= TIE * abs(x[0]) or unit_y <= TIE * abs(y[0]):
        return np.nan
    sx, sy = _sums(x, y)
    xx, yy, xy = _products(x, sx / len(x), 1.0, y, sy / len(y), 1.0)
    if not (_SMALL < xx < _LARGE and _SMALL < yy < _LARGE):
        xx, yy, xy = _products(x, sx / len(x), unit_x, y, sy / len(y), unit_y)
    value = xy / (np.sqrt(xx) * np.sqrt(yy))
    return min(1.0, max(-1.0, value)) if abs(value) < np.inf else np.nan


@reduction
def _sums(x, y):
    """Sums of the distances from the first of each side."""
    sx, sy = 0.0, 0.0
    for i in range(len(x)):
        sx += x[i] - x[0]
        sy += y[i] - y[0]
    return sx, sy


@reduction
def _products(x, mx, unit_x, y, my, unit_y):
    """Sums of squares and products of the deviations, in units; ``mx`` and ``my`` are means less the first values."""
    share_x, share_y = 1.0 / unit_x, 1.0 / unit_y
    xx, yy, xy = 0.0, 0.0, 0.0
    for i in range(len(x)):
        p, q = ((x[i] - x[0]) - mx) * share_x, ((y[i] - y[0]) - my) * share_y
        xx += p * p
        yy += q * q
        xy += p * q
    return xx, yy, xy

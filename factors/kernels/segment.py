"""What cross-sectional operators do to one set of values of one day: ``[n]`` float64, NaN for null.

Sums run lane by lane, so that the compiler uses a whole vector register without being free to reorder a difference.
"""

import numpy as np

from factors.kernels.compile import kernel, reduction
from factors.kernels.order import TIE, ascend, tied, workspace

_LANES = 32
_SMALL, _LARGE = 1e-200, 1e200  # sums of squares outside are taken again in a unit near the values' own


@kernel
def scratch(size):
    """Room to rank up to ``size`` values: the known ones and their cells, then cells and values in ascending order."""
    return (
        np.empty(size + 1),
        np.empty(size + 1, np.uint32),
        np.empty(size, np.uint32),
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


@kernel
def total(v, centre):
    """Sum of the known values' distances from ``centre``."""
    lanes, whole, s = np.zeros(_LANES), len(v) // _LANES * _LANES, 0.0
    for i in range(0, whole, _LANES):
        part = v[i : i + _LANES]
        for j in range(_LANES):
            lanes[j] += part[j] - centre if part[j] == part[j] else 0.0
    for i in range(whole, len(v)):
        s += v[i] - centre if v[i] == v[i] else 0.0
    return s + lanes.sum()


@reduction
def absolute_total(v):
    """Sum of the known values' magnitudes."""
    s = 0.0
    for i in range(len(v)):
        s += abs(v[i]) if v[i] == v[i] else 0.0
    return s


@kernel
def squares(v, anchor, shift, unit):
    """Sum of the known values' squared distances from ``anchor + shift``, in ``unit``."""
    lanes, whole, s = np.zeros(_LANES), len(v) // _LANES * _LANES, 0.0
    for i in range(0, whole, _LANES):
        part = v[i : i + _LANES]
        for j in range(_LANES):
            e = ((part[j] - anchor) - shift) / unit if part[j] == part[j] else 0.0
            lanes[j] += e * e
    for i in range(whole, len(v)):
        e = ((v[i] - anchor) - shift) / unit if v[i] == v[i] else 0.0
        s += e * e
    return s + lanes.sum()


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
    """(first value, mean less it, standard deviation with ddof 1) of the known values.

    Distances from the first value are exact where values crowd, so that the mean is told apart from it there too. The
    deviation is 0 where the values are equal, null for fewer than two.
    """
    n, anchor = count(v), first_known(v)
    unit = farthest(v, anchor)
    if n < 2 or unit == 0.0:
        return anchor, 0.0, np.nan if n < 2 else 0.0
    shift = total(v, anchor) / n
    return anchor, shift, unit * np.sqrt(squares(v, anchor, shift, unit) / (n - 1))


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
    """Sort the known values: fill the scratch's ``order`` with their cells and ``ordered``; return the number."""
    values, cells, order, ordered, sorting = scratch
    n = gather(v, values, cells)
    ascend(v, values, cells, n, order, ordered, sorting)
    return n


@kernel
def rank(v, scratch):
    """Percentile rank in (0, 1], ties averaged."""
    _, _, order, ordered, _ = scratch
    n = sort(v, scratch)
    average_ranks(ordered, n)
    for i in range(n):
        ordered[i] /= n
    for i in range(n):
        v[order[i]] = ordered[i]


@kernel
def gather(v, values, cells):
    """Collect the known values and their places; one more is written than kept."""
    n = np.uint64(0)
    for i in range(len(v)):
        value = v[i]
        values[n] = value + 0.0
        cells[n] = i
        n += np.uint64(value == value)
    return np.int64(n)


@kernel
def correlation(x, y):
    """Pearson correlation of known values; null for fewer than two or where all of one side tie."""
    if len(x) < 2:
        return np.nan
    sx, unit_x, sy, unit_y = _extent(x, y)
    if unit_x <= TIE * abs(x[0]) or unit_y <= TIE * abs(y[0]):
        return np.nan
    mx, my = sx / len(x), sy / len(y)
    xx, yy, xy = _products(x, mx, 1.0, y, my, 1.0)
    if not (_SMALL < xx < _LARGE and _SMALL < yy < _LARGE):
        xx, yy, xy = _products(x, mx, unit_x, y, my, unit_y)
    value = xy / (np.sqrt(xx) * np.sqrt(yy))
    return min(1.0, max(-1.0, value)) if abs(value) < np.inf else np.nan


@kernel
def _extent(x, y):
    """Sum and largest of the distances from the first value, of both sides."""
    lanes, whole = np.zeros(4 * _LANES), len(x) // _LANES * _LANES
    for i in range(0, whole, _LANES):
        part, other = x[i : i + _LANES], y[i : i + _LANES]
        for j in range(_LANES):
            p, q = part[j] - x[0], other[j] - y[0]
            lanes[j] += p
            lanes[_LANES + j] = max(lanes[_LANES + j], abs(p))
            lanes[2 * _LANES + j] += q
            lanes[3 * _LANES + j] = max(lanes[3 * _LANES + j], abs(q))
    sx, far_x = lanes[:_LANES].sum(), lanes[_LANES : 2 * _LANES].max()
    sy, far_y = lanes[2 * _LANES : 3 * _LANES].sum(), lanes[3 * _LANES :].max()
    for i in range(whole, len(x)):
        p, q = x[i] - x[0], y[i] - y[0]
        sx += p
        far_x = max(far_x, abs(p))
        sy += q
        far_y = max(far_y, abs(q))
    return sx, far_x, sy, far_y


@kernel
def _products(x, mx, unit_x, y, my, unit_y):
    """Sums of squares and products of the deviations, in units; ``mx`` and ``my`` are means less the first values."""
    lanes, whole, share_x, share_y = np.zeros(3 * _LANES), len(x) // _LANES * _LANES, 1.0 / unit_x, 1.0 / unit_y
    for i in range(0, whole, _LANES):
        part, other = x[i : i + _LANES], y[i : i + _LANES]
        for j in range(_LANES):
            p, q = ((part[j] - x[0]) - mx) * share_x, ((other[j] - y[0]) - my) * share_y
            lanes[j] += p * p
            lanes[_LANES + j] += q * q
            lanes[2 * _LANES + j] += p * q
    xx, yy, xy = lanes[:_LANES].sum(), lanes[_LANES : 2 * _LANES].sum(), lanes[2 * _LANES :].sum()
    for i in range(whole, len(x)):
        p, q = ((x[i] - x[0]) - mx) * share_x, ((y[i] - y[0]) - my) * share_y
        xx += p * p
        yy += q * q
        xy += p * q
    return xx, yy, xy


@reduction
def rank_correlation(a, b):
    """Pearson correlation of two sides of the same ranks 1 to n; null where all of one side tie.

    Ranks are whole or half numbers, so that no sum here is rounded.
    """
    middle, aa, bb, ab = (len(a) + 1) * 0.5, 0.0, 0.0, 0.0
    for i in range(len(a)):
        p, q = a[i] - middle, b[i] - middle
        aa += p * p
        bb += q * q
        ab += p * q
    return ab / np.sqrt(aa * bb) if aa > 0.0 and bb > 0.0 else np.nan

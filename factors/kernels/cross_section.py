"""Cross-sectional kernels over tiles: ``x`` is float64 ``[B, T, L]``, ``group`` is int16 of the same shape.

``group`` holds each cell's group on that date, -1 for cells that take no part (not a member, no sector); over the whole
universe every member is in group 0. NaN is null; cells that take no part, and nulls, get null, as do infinities.

Each kernel fills the days ``start`` to ``stop`` of ``out``. A day's cells are laid side by side, sorted by group where
there are several, and each group's segment is worked on in place.
"""

import numpy as np

from factors.kernels import segment
from factors.kernels.compile import kernel, reduction


@kernel
def rank(x, group, out, start, stop):
    """Percentile rank in (0, 1] within the group, ties averaged; neighbours within 1e-12 relative are tied."""
    day, scratch = lay_day(x), segment.scratch(x.shape[0] * x.shape[2])
    for t in range(start, stop):
        values, starts = read_day(x, group, t, day)
        for g in range(len(starts) - 1):
            segment.rank(values[starts[g] : starts[g + 1]], scratch)
        write_day(values, starts, day, out, t)


@kernel
def zscore(x, group, out, start, stop):
    """Distance from the group's mean in standard deviations (ddof 1); null where the group is constant."""
    day = lay_day(x)
    for t in range(start, stop):
        values, starts = read_day(x, group, t, day)
        for g in range(len(starts) - 1):
            v = values[starts[g] : starts[g + 1]]
            centre, std = segment.deviation(v)
            v -= centre
            v /= std if std > 0.0 else np.nan
        write_day(values, starts, day, out, t)


@kernel
def scale(x, group, out, start, stop):
    """The value over the sum of its group's absolute values; null where that is 0."""
    day = lay_day(x)
    for t in range(start, stop):
        values, starts = read_day(x, group, t, day)
        for g in range(len(starts) - 1):
            v = values[starts[g] : starts[g + 1]]
            v /= segment.absolute_total(v, 0.0)
        write_day(values, starts, day, out, t)


@kernel
def demean(x, group, out, start, stop):
    """The value less its group's mean."""
    day = lay_day(x)
    for t in range(start, stop):
        values, starts = read_day(x, group, t, day)
        for g in range(len(starts) - 1):
            v = values[starts[g] : starts[g + 1]]
            v -= segment.mean(v)
        write_day(values, starts, day, out, t)


@kernel
def mean(x, group, out, start, stop):
    """The group's mean, where the value itself is known."""
    day = lay_day(x)
    for t in range(start, stop):
        values, starts = read_day(x, group, t, day)
        for g in range(len(starts) - 1):
            v = values[starts[g] : starts[g + 1]]
            centre = segment.mean(v)
            for i in range(len(v)):
                v[i] = centre if v[i] == v[i] else np.nan
        write_day(values, starts, day, out, t)


@kernel
def lay_day(x):
    """Room for one day: the row of cells, their groups, the known values by group, and their places in the row."""
    cells = x.shape[0] * x.shape[2]
    return np.empty(cells), np.empty(cells, np.int16), np.empty(cells), np.empty(cells, np.int32)


@kernel
def read_day(x, group, t, day):
    """The day's values, one segment a group, and where each segment starts and the last one ends."""
    row, codes, values, places = day
    groups = _members(x, group, t, row, codes)
    if groups == 1:
        return row, np.array([0, len(row)])
    starts = np.zeros(groups + 1, np.int64)
    for i in range(len(row)):
        starts[codes[i] + 1] += np.int64(row[i] == row[i])
    starts = np.cumsum(starts)
    following = starts[:groups].copy()
    for i in range(len(row)):
        if row[i] == row[i]:
            k = following[codes[i]]
            following[codes[i]] = k + 1
            values[k], places[k] = row[i], i
    return values, starts


@reduction
def _members(x, group, t, row, codes):
    """Lay the day's cells side by side, null for those that take no part; return the number of groups, at least 1."""
    blocks, _, lanes = x.shape
    top = np.int16(0)
    for b in range(blocks):
        for j in range(lanes):
            code = group[b, t, j]
            top = code if code > top else top
            codes[b * lanes + j] = code
            row[b * lanes + j] = x[b, t, j] if code >= 0 else np.nan
    return top + 1


@kernel
def write_day(values, starts, day, out, t):
    """Put each value back in its cell."""
    row, _, _, places = day
    blocks, _, lanes = out.shape
    if len(starts) > 2:
        for k in range(starts[-1]):
            row[places[k]] = values[k]
    for b in range(blocks):
        for j in range(lanes):
            value = row[b * lanes + j]
            out[b, t, j] = value if abs(value) < np.inf else np.nan

"""Cross-sectional kernels over tiles: ``x`` is float64 ``[B, T, L]``, ``group`` is int16 of the same shape.

``group`` holds each cell's group on that date, -1 for cells that take no part (not a member, no sector); over the whole
universe every member is in group 0. NaN is null; cells that take no part, and nulls, get null. ``out`` is filled.
"""

import numpy as np

from factors.kernels.compile import kernel
from factors.kernels.rolling import TIE


@kernel
def _gather(x, group, t, values, groups, cells):
    """Collect the day's known cells that take part; return their number."""
    blocks, _, lanes = x.shape
    n = 0
    for b in range(blocks):
        for j in range(lanes):
            if group[b, t, j] >= 0 and x[b, t, j] == x[b, t, j]:
                values[n], groups[n], cells[n] = x[b, t, j], group[b, t, j], b * lanes + j
                n += 1
    return n


@kernel
def rank(x, group, out):
    """Percentile rank in (0, 1] within the group, ties averaged; neighbours within 1e-12 relative are tied."""
    blocks, rows, lanes = x.shape
    values, groups = np.empty(blocks * lanes), np.empty(blocks * lanes, np.int16)
    cells = np.empty(blocks * lanes, np.int64)
    out[:] = np.nan
    for t in range(rows):
        n = _gather(x, group, t, values, groups, cells)
        order = np.argsort(values[:n])
        order = order[np.argsort(groups[order], kind="mergesort")]
        start = 0
        while start < n:
            end = start
            while end < n and groups[order[end]] == groups[order[start]]:
                end += 1
            first = start
            while first < end:
                last = first
                while last + 1 < end and _tied(values[order[last]], values[order[last + 1]]):
                    last += 1
                share = ((first + last) * 0.5 - start + 1.0) / (end - start)
                for k in range(first, last + 1):
                    cell = cells[order[k]]
                    out[cell // lanes, t, cell % lanes] = share
                first = last + 1
            start = end


@kernel
def _tied(low, high):
    return high - low <= TIE * max(abs(low), abs(high))


@kernel
def _centres(x, group, t, count, mean, constant):
    """Count, mean and constancy of each group on one day, about the group's first value."""
    blocks, _, lanes = x.shape
    first = np.empty(len(count))
    count[:] = 0.0
    mean[:] = 0.0
    constant[:] = True
    for b in range(blocks):
        for j in range(lanes):
            g, v = group[b, t, j], x[b, t, j]
            if g >= 0 and v == v:
                if count[g] == 0.0:
                    first[g] = v
                constant[g] = constant[g] and v == first[g]
                count[g] += 1.0
                mean[g] += v - first[g]
    for g in range(len(count)):
        mean[g] = first[g] + mean[g] / count[g] if count[g] > 0.0 else np.nan


@kernel
def demean(x, group, out):
    """The value less its group's mean."""
    blocks, rows, lanes = x.shape
    size = group.max() + 1
    count, mean, constant = np.empty(size), np.empty(size), np.empty(size, np.bool_)
    for t in range(rows):
        _centres(x, group, t, count, mean, constant)
        for b in range(blocks):
            for j in range(lanes):
                g = group[b, t, j]
                value = x[b, t, j] - mean[g] if g >= 0 else np.nan
                out[b, t, j] = value if abs(value) < np.inf else np.nan


@kernel
def mean(x, group, out):
    """The group's mean, where the value itself is known."""
    blocks, rows, lanes = x.shape
    size = group.max() + 1
    count, centre, constant = np.empty(size), np.empty(size), np.empty(size, np.bool_)
    for t in range(rows):
        _centres(x, group, t, count, centre, constant)
        for b in range(blocks):
            for j in range(lanes):
                known = group[b, t, j] >= 0 and x[b, t, j] == x[b, t, j]
                value = centre[group[b, t, j]] if known else np.nan
                out[b, t, j] = value if abs(value) < np.inf else np.nan


@kernel
def zscore(x, group, out):
    """Distance from the group's mean in standard deviations (ddof 1); null where the group is constant."""
    blocks, rows, lanes = x.shape
    size = group.max() + 1
    count, mean, constant = np.empty(size), np.empty(size), np.empty(size, np.bool_)
    squares, unit = np.empty(size), np.empty(size)
    for t in range(rows):
        _centres(x, group, t, count, mean, constant)
        squares[:] = 0.0
        unit[:] = 0.0
        for b in range(blocks):
            for j in range(lanes):
                g, v = group[b, t, j], x[b, t, j]
                if g >= 0 and v == v:
                    unit[g] = max(unit[g], abs(v - mean[g]))
        for b in range(blocks):
            for j in range(lanes):
                g, v = group[b, t, j], x[b, t, j]
                if g >= 0 and v == v:
                    squares[g] += (v - mean[g]) / unit[g] * ((v - mean[g]) / unit[g])
        for b in range(blocks):
            for j in range(lanes):
                g = group[b, t, j]
                value = np.nan
                if g >= 0 and count[g] > 1.0 and not constant[g]:
                    value = (x[b, t, j] - mean[g]) / unit[g] / np.sqrt(squares[g] / (count[g] - 1.0))
                out[b, t, j] = value if abs(value) < np.inf else np.nan


@kernel
def scale(x, group, out):
    """The value over the sum of its group's absolute values; null where that is 0."""
    blocks, rows, lanes = x.shape
    total = np.empty(group.max() + 1)
    for t in range(rows):
        total[:] = 0.0
        for b in range(blocks):
            for j in range(lanes):
                if group[b, t, j] >= 0 and x[b, t, j] == x[b, t, j]:
                    total[group[b, t, j]] += abs(x[b, t, j])
        for b in range(blocks):
            for j in range(lanes):
                g = group[b, t, j]
                value = x[b, t, j] / total[g] if g >= 0 else np.nan
                out[b, t, j] = value if abs(value) < np.inf else np.nan

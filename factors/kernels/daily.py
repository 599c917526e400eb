"""Daily cross-sectional kernels behind the metrics; tiles ``[B, T, L]``, NaN is null."""

import numpy as np

from factors.kernels.compile import kernel
from factors.kernels.order import TIE


@kernel
def _average_ranks(values, tie, ranks):
    """Ranks from 1, ties averaged; sorted neighbours within ``tie`` relative are tied."""
    n = len(values)
    order = np.argsort(values)
    first = 0
    while first < n:
        last = first
        while last + 1 < n:
            low, high = values[order[last]], values[order[last + 1]]
            if high - low > tie * max(abs(low), abs(high)):
                break
            last += 1
        for k in range(first, last + 1):
            ranks[order[k]] = (first + last) * 0.5 + 1.0
        first = last + 1


@kernel
def _correlation(x, y):
    """Pearson correlation; null for fewer than two pairs or where either is constant."""
    n = len(x)
    if n < 2 or x.min() == x.max() or y.min() == y.max():
        return np.nan
    mx, my = x[0] + (x - x[0]).sum() / n, y[0] + (y - y[0]).sum() / n
    unit_x, unit_y = np.abs(x - mx).max(), np.abs(y - my).max()
    xx, yy, xy = 0.0, 0.0, 0.0
    for i in range(n):
        p, q = (x[i] - mx) / unit_x, (y[i] - my) / unit_y
        xx += p * p
        yy += q * q
        xy += p * q
    value = xy / (np.sqrt(xx) * np.sqrt(yy))
    return min(1.0, max(-1.0, value)) if abs(value) < np.inf else np.nan


@kernel
def correlations(x, label, ic, rank_ic):
    """Fill ``[T]`` daily Pearson and Spearman correlations over the cells where both are known."""
    blocks, rows, lanes = x.shape
    a, b = np.empty(blocks * lanes), np.empty(blocks * lanes)
    ra, rb = np.empty(blocks * lanes), np.empty(blocks * lanes)
    for t in range(rows):
        n = 0
        for tile in range(blocks):
            for j in range(lanes):
                v, w = x[tile, t, j], label[tile, t, j]
                if v == v and w == w:
                    a[n], b[n] = v, w
                    n += 1
        _average_ranks(a[:n], TIE, ra[:n])
        _average_ranks(b[:n], TIE, rb[:n])
        ic[t] = _correlation(a[:n], b[:n])
        rank_ic[t] = _correlation(ra[:n], rb[:n])


@kernel
def ranks(x, eligible, out):
    """Fill ``[B, T, L]`` (float32) each day's ranks of the eligible known cells from 1, ties averaged; others null."""
    blocks, rows, lanes = x.shape
    values, cells = np.empty(blocks * lanes), np.empty(blocks * lanes, np.int64)
    ranked = np.empty(blocks * lanes)
    out[:] = np.nan
    for t in range(rows):
        n = _gather(x, eligible, t, values, cells)
        _average_ranks(values[:n], TIE, ranked[:n])
        for k in range(n):
            out[cells[k] // lanes, t, cells[k] % lanes] = ranked[k]


@kernel
def mean_correlation(a, b):
    """Mean over days of the Pearson correlation over the cells where both are known; 0 where no day has one."""
    blocks, rows, lanes = a.shape
    total, days = 0.0, 0
    for t in range(rows):
        n, sa, sb, aa, bb, ab = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for tile in range(blocks):
            for j in range(lanes):
                v, w = np.float64(a[tile, t, j]), np.float64(b[tile, t, j])
                both = v == v and w == w
                p, q = (v if both else 0.0), (w if both else 0.0)
                n += 1.0 if both else 0.0
                sa += p
                sb += q
                aa += p * p
                bb += q * q
                ab += p * q
        spread = (aa * n - sa * sa) * (bb * n - sb * sb)
        if n > 1.0 and spread > 0.0:
            total += (ab * n - sa * sb) / np.sqrt(spread)
            days += 1
    return total / days if days else 0.0


@kernel
def _gather(x, eligible, t, values, cells):
    """Collect the day's eligible known cells; return their number."""
    blocks, _, lanes = x.shape
    n = 0
    for tile in range(blocks):
        for j in range(lanes):
            if eligible[tile, t, j] and x[tile, t, j] == x[tile, t, j]:
                values[n], cells[n] = x[tile, t, j], tile * lanes + j
                n += 1
    return n


@kernel
def turnover(x, eligible, out):
    """Fill ``[T]`` half the absolute change of the centred-rank weights in a day; null unless both days have a book."""
    blocks, rows, lanes = x.shape
    values, cells = np.empty(blocks * lanes), np.empty(blocks * lanes, np.int64)
    ranked = np.empty(blocks * lanes)
    held, wanted = np.zeros(blocks * lanes), np.zeros(blocks * lanes)
    open_book = False
    for t in range(rows):
        n = _gather(x, eligible, t, values, cells)
        out[t] = np.nan
        _average_ranks(values[:n], TIE, ranked[:n])
        wanted[:] = 0.0
        gross = 0.0
        for k in range(n):
            wanted[cells[k]] = ranked[k] - (n + 1) * 0.5
            gross += abs(wanted[cells[k]])
        if gross == 0.0:
            open_book = False
            continue
        wanted /= gross
        if open_book:
            out[t] = 0.5 * np.abs(wanted - held).sum()
        held[:] = wanted
        open_book = True

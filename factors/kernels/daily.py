"""Cross-sectional measures of a factor against labels, row by row in one pass; NaN is null. A day is a row here.

A day's eligible known values are sorted once. Their ranks are the book of that day (dollar-neutral, weights in
proportion to the centred rank). In their order the cells that carry a label are collected for each horizon: there the
values need no second sort to be ranked among them, and tenths lie side by side. The labels were ranked once for all
factors by ``rank_labels``; ranks are whole or half numbers, so that float32 holds them.
"""

import numpy as np

from factors.kernels import segment
from factors.kernels.compile import kernel, reduction

DECILES = 10

_HAIR = 1e-9  # far less than what sets a fraction apart from a whole number here


@kernel
def measure(x, eligible, labels, label_ranks, counts, start, stop, ic, rank_ic, book, deciles):
    """Measure the days ``start`` to ``stop``.

    Args:
        x: factor values ``[B, T, L]``.
        eligible: cells that may hold a position, ``[B, T, L]``.
        labels: ``[H, T, B * L]`` by horizon, day and cell.
        label_ranks: ``[H, T, B * L]`` float32, their ranks from 1 among the day's, ties averaged.
        counts: ``[H, T]`` how many there are.
        start: first day.
        stop: day after the last.
        ic: ``[H, T]`` Pearson correlations of value and label, filled.
        rank_ic: ``[H, T]`` Spearman correlations, filled.
        book: ``[T, 5]`` eligible cells, those known, turnover, rank autocorrelation, and the return, under the first
            horizon's label, of one unit long and one short; filled.
        deciles: ``[T, 10]`` mean label, under the first horizon, of each tenth by rank; filled.
    """
    room = x.shape[0] * x.shape[2]
    row, scratch, tally = np.empty(room), segment.scratch(room), np.empty(2 * room + 1, np.int32)
    today, before = np.full(room, np.nan, np.float32), np.full(room, np.nan, np.float32)
    label, label_rank, ranks = np.empty(room), np.empty(room, np.float32), np.empty(room)
    pairs = (np.empty(room + 1), np.empty(room + 1), np.empty(room + 1), np.empty(room + 1))
    middle, gross = 0.0, 0.0
    for t in range(max(start - 1, 0), stop):
        today, before, middle_before, gross_before = before, today, middle, gross
        may = _lay(x, eligible, t, row)
        n = _rank(row, today, ranks, scratch)
        middle, gross = (n + 1) * 0.5, _gross(ranks[:n], (n + 1) * 0.5)
        if t < start:
            continue
        book[t, 0], book[t, 1] = may, n
        turned = _turned(today, middle, 1.0 / gross, before, middle_before, 1.0 / gross_before)
        book[t, 2] = turned if gross > 0.0 and gross_before > 0.0 else np.nan
        book[t, 3] = _correlation(*_products(today, before))
        for h in range(len(counts)):
            label[:], label_rank[:] = labels[h, t], label_ranks[h, t]  # in order, before they are read in any other
            m = _labelled(scratch, ranks, n, label, label_rank, pairs)
            xs, ys, x_ranks, y_ranks = pairs[0][:m], pairs[1][:m], pairs[2][:m], pairs[3][:m]
            if h == 0:
                book[t, 4] = 2.0 * _earned(x_ranks, middle, ys) / gross if gross > 0.0 else np.nan
            if m < n:
                segment.average_ranks(x_ranks, m)
            if m < counts[h, t]:
                _rerank(y_ranks, tally[: 2 * counts[h, t] + 1])
            ic[h, t] = segment.correlation(xs, ys)
            rank_ic[h, t] = segment.rank_correlation(x_ranks, y_ranks)
            if h == 0:
                _tenths(x_ranks, ys, deciles[t])


@reduction
def _lay(x, eligible, t, row):
    """Lay the day's cells side by side, null for those that are not eligible; return the number that are."""
    blocks, _, lanes = x.shape
    n = 0
    for b in range(blocks):
        for j in range(lanes):
            may = eligible[b, t, j]
            n += 1 if may else 0
            row[b * lanes + j] = x[b, t, j] if may else np.nan
    return n


@kernel
def _rank(row, by_cell, ranks, scratch):
    """Fill the ranks from 1 of the known cells, by cell, null for the others, and in order; return their number."""
    _, _, order, ordered, _ = scratch
    n = segment.sort(row, scratch)
    ranks[:n] = ordered[:n]
    segment.average_ranks(ranks, n)
    by_cell[:] = np.nan
    for i in range(n):
        by_cell[order[i]] = ranks[i]
    return n


@kernel
def _labelled(scratch, ranks, n, labels, label_ranks, pairs):
    """Collect value, label and their ranks, in the values' order, of the cells that have both; return their number."""
    _, _, order, ordered, _ = scratch
    xs, ys, x_ranks, y_ranks = pairs
    m = np.uint64(0)
    for i in range(n):
        cell = order[i]
        label = labels[cell]
        xs[m], ys[m], x_ranks[m], y_ranks[m] = ordered[i], label, ranks[i], label_ranks[cell]
        m += np.uint64(label == label)
    return np.int64(m)


@kernel
def _rerank(ranks, tally):
    """Turn ranks among more values into ranks among these, by counting; ranks are whole or half numbers."""
    tally[:] = 0
    for i in range(len(ranks)):
        tally[int(2.0 * ranks[i])] += 1
    below = 0
    for k in range(len(tally)):
        own = tally[k]
        tally[k] = 2 * below + own + 1
        below += own
    for i in range(len(ranks)):
        ranks[i] = 0.5 * tally[int(2.0 * ranks[i])]


@reduction
def _gross(ranks, middle):
    """Sum of the ranks' distances from their middle."""
    gross = 0.0
    for i in range(len(ranks)):
        gross += abs(ranks[i] - middle)
    return gross


@reduction
def _turned(today, middle, unit, before, middle_before, unit_before):
    """Half the absolute change of the weights; a unit is what one rank off the middle weighs."""
    moved = 0.0
    for i in range(len(today)):
        new = (today[i] - middle) * unit if today[i] == today[i] else 0.0
        old = (before[i] - middle_before) * unit_before if before[i] == before[i] else 0.0
        moved += abs(new - old)
    return 0.5 * moved


@reduction
def _earned(ranks, middle, labels):
    """What the book earns, with a weight of one for a rank off its middle; what carries no label earns nothing."""
    earned = 0.0
    for i in range(len(ranks)):
        earned += (ranks[i] - middle) * labels[i]
    return earned


@kernel
def _tenths(ranks, labels, out):
    """Mean label of each tenth of ascending ranks.

    The tenth of rank r among m is the first integer not below 10 (r - 1) / (m - 1). That quotient is a whole number or
    at least 1 / (m - 1) / 2 away from one, so a hair less of it rounds up the same.
    """
    m, first = len(ranks), 0
    for k in range(DECILES):
        last = 1.0 + (k + 1 + _HAIR) * max(m - 1, 1) / DECILES
        after = max(first, min(m, int(last)))
        while after < m and ranks[after] <= last:
            after += 1
        while after > first and ranks[after - 1] > last:
            after -= 1
        out[k] = _total(labels[first:after]) / (after - first)
        first = after


@reduction
def _total(values):
    total = 0.0
    for i in range(len(values)):
        total += values[i]
    return total


@kernel
def rank_labels(label, labels, ranks, counts, start, stop):
    """Lay the labels ``[B, T, L]`` of the days ``start`` to ``stop`` out as ``[T, B * L]`` and rank them."""
    lanes = label.shape[2]
    room = label.shape[0] * lanes
    ordered_ranks, scratch = np.empty(room), segment.scratch(room)
    for t in range(start, stop):
        for b in range(label.shape[0]):
            labels[t, b * lanes : (b + 1) * lanes] = label[b, t]
        counts[t] = _rank(labels[t], ranks[t], ordered_ranks, scratch)


@kernel
def ranks(x, eligible, out, first, start, stop):
    """Ranks from 1 of the eligible known cells, ties averaged, others null.

    They fill the days ``start`` to ``stop`` of ``out``, float32 ``[B, T, L]``, whose day 0 is day ``first`` of ``x``.
    """
    blocks, _, lanes = x.shape
    room = blocks * lanes
    row, ordered_ranks, scratch = np.empty(room), np.empty(room), segment.scratch(room)
    ranked = np.empty(room, np.float32)
    for t in range(start, stop):
        _lay(x, eligible, first + t, row)
        _rank(row, ranked, ordered_ranks, scratch)
        for b in range(blocks):
            for j in range(lanes):
                out[b, t, j] = ranked[b * lanes + j]


@kernel
def mean_correlation(a, b):
    """Mean over days of the Pearson correlation over the cells where both are known; 0 where no day has one."""
    blocks, rows, _ = a.shape
    total, days = 0.0, 0
    for t in range(rows):
        n, sa, sb, aa, bb, ab = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for tile in range(blocks):
            part = _products(a[tile, t], b[tile, t])
            n += part[0]
            sa += part[1]
            sb += part[2]
            aa += part[3]
            bb += part[4]
            ab += part[5]
        correlation = _correlation(n, sa, sb, aa, bb, ab)
        if correlation == correlation:
            total += correlation
            days += 1
    return total / days if days else 0.0


@kernel
def _correlation(n, sa, sb, aa, bb, ab):
    """Pearson correlation from such sums; null where a side does not vary."""
    spread = (aa * n - sa * sa) * (bb * n - sb * sb)
    return (ab * n - sa * sb) / np.sqrt(spread) if spread > 0.0 else np.nan


@reduction
def _products(a, b):
    """Number, sums, and sums of squares and products, of ranks known on both sides; small halves, so they are exact."""
    n, sa, sb, aa, bb, ab = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(len(a)):
        both = a[i] == a[i] and b[i] == b[i]
        p, q = (np.float64(a[i]) if both else 0.0), (np.float64(b[i]) if both else 0.0)
        n += 1.0 if both else 0.0
        sa += p
        sb += q
        aa += p * p
        bb += q * q
        ab += p * q
    return n, sa, sb, aa, bb, ab

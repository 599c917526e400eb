"""Daily cross-sectional measures of a factor against labels, in one pass over the days; NaN is null.

A day's eligible known values are sorted once. Their ranks are the book of that day (dollar-neutral, weights in
proportion to the centred rank) and, among the cells that carry a label, one side of the rank correlation; the labels,
the other side, come sorted from ``labels``.
"""

import numpy as np

from factors.kernels import segment
from factors.kernels.compile import kernel, reduction

DECILES = 10

_HAIR = 1e-9  # far less than what sets a fraction apart from a whole number here


@kernel
def measure(x, eligible, cells, ordered, counts, start, stop, ic, rank_ic, book, deciles):
    """Measure the days ``start`` to ``stop``.

    Args:
        x: factor values ``[B, T, L]``.
        eligible: cells that may hold a position, ``[B, T, L]``.
        cells: ``[H, T, B * L]`` by horizon and day, the cells that carry a label, in ascending order of the label.
        ordered: ``[H, T, B * L]`` their labels.
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
    row, today, before = np.empty(room), np.full(room, np.nan), np.full(room, np.nan)
    tally = np.empty(2 * room + 1, np.int32)
    buckets, scratch = np.empty(room, np.int32), segment.scratch(room)
    xs, ranks, ys, label_ranks = np.empty(room + 1), np.empty(room + 1), np.empty(room + 1), np.empty(room)
    for t in range(max(start - 1, 0), stop):
        today, before = before, today
        may = _lay(x, eligible, t, row)
        n = _rank(row, today, scratch)
        if t < start:
            continue
        book[t, 0], book[t, 1] = may, n
        book[t, 2], book[t, 3] = _change(today, before)
        for h in range(len(counts)):
            labelled, count = cells[h, t], counts[h, t]
            m = _pair(row, today, labelled, ordered[h, t], count, xs, ranks, ys)
            if h == 0:
                book[t, 4] = _long_short(today, ranks[:m], ys[:m])
            if m < n:
                _rerank(ranks[:m], tally[: 2 * n + 1])
            label_ranks[:m] = ys[:m]
            segment.average_ranks(label_ranks, m)
            ic[h, t] = segment.correlation(xs[:m], ys[:m])
            rank_ic[h, t] = segment.rank_correlation(ranks[:m], label_ranks[:m])
            if h == 0:
                _tenths(ranks[:m], ys[:m], buckets, deciles[t])


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
def _rank(row, ranks, scratch):
    """Fill the ranks from 1 of the known cells, null for the others; return their number."""
    _, cells, order, ordered, _ = scratch
    n = segment.sort(row, scratch)
    segment.average_ranks(ordered, n)
    ranks[:] = np.nan
    for i in range(n):
        ranks[cells[order[i]]] = ordered[i]
    return n


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


@kernel
def _pair(row, ranks, labelled, ordered, count, xs, rs, ys):
    """Collect value, rank and label, in the labels' order, of the cells that have both; return their number."""
    m = 0
    for q in range(count):
        cell = labelled[q]
        rank = ranks[cell]
        xs[m], rs[m], ys[m] = row[cell], rank, ordered[q]
        m += int(rank == rank)
    return m


@reduction
def _gross(ranks):
    """The middle of the ranks, and the sum of their distances from it."""
    n = 0
    for i in range(len(ranks)):
        n += 1 if ranks[i] == ranks[i] else 0
    middle, gross = (n + 1) * 0.5, 0.0
    for i in range(len(ranks)):
        gross += abs(ranks[i] - middle) if ranks[i] == ranks[i] else 0.0
    return middle, gross


@kernel
def _change(today, before):
    """Turnover and rank autocorrelation from one day to the next; turnover is null unless both have a book."""
    middle, gross = _gross(today)
    middle_before, gross_before = _gross(before)
    turned = _turned(today, middle, gross, before, middle_before, gross_before)
    return turned if gross > 0.0 and gross_before > 0.0 else np.nan, _correlation(*_products(today, before))


@reduction
def _turned(today, middle, gross, before, middle_before, gross_before):
    """Half the absolute change of the weights."""
    moved = 0.0
    for i in range(len(today)):
        new = (today[i] - middle) / gross if today[i] == today[i] else 0.0
        old = (before[i] - middle_before) / gross_before if before[i] == before[i] else 0.0
        moved += abs(new - old)
    return 0.5 * moved


@reduction
def _long_short(today, ranks, labels):
    """Return of the book with one unit long and one short; what carries no label earns nothing. Null without a book."""
    middle, gross = _gross(today)
    earned = 0.0
    for i in range(len(ranks)):
        earned += (ranks[i] - middle) * labels[i]
    return 2.0 * earned / gross if gross > 0.0 else np.nan


@kernel
def _tenths(ranks, labels, buckets, out):
    """Mean label of each tenth: the bucket of rank r among m is the first integer not below 10 (r - 1) / (m - 1).

    That quotient is a whole number or at least 1 / (2 m) away from one, so a hair less of it rounds up the same.
    """
    total, n = np.zeros(DECILES), np.zeros(DECILES)
    width = DECILES / max(len(ranks) - 1, 1)
    for i in range(len(ranks)):
        buckets[i] = max(int(np.ceil((ranks[i] - 1.0) * width - _HAIR)), 1) - 1
    for i in range(len(ranks)):
        total[buckets[i]] += labels[i]
        n[buckets[i]] += 1.0
    for k in range(DECILES):
        out[k] = total[k] / n[k]


@kernel
def sort_labels(label, cells, ordered, counts, start, stop):
    """Sort the labels ``[B, T, L]`` of the days ``start`` to ``stop`` into ``[T, B * L]`` cells and values."""
    room = label.shape[0] * label.shape[2]
    row, scratch = np.empty(room), segment.scratch(room)
    lanes = label.shape[2]
    for t in range(start, stop):
        for b in range(label.shape[0]):
            row[b * lanes : (b + 1) * lanes] = label[b, t]
        n = segment.sort(row, scratch)
        counts[t] = n
        _, places, order, values, _ = scratch
        for i in range(n):
            cells[t, i] = places[order[i]]
            ordered[t, i] = values[i]


@kernel
def ranks(x, eligible, out, first, start, stop):
    """Ranks from 1 of the eligible known cells, ties averaged, others null.

    They fill the days ``start`` to ``stop`` of ``out``, float32 ``[B, T, L]``, whose day 0 is day ``first`` of ``x``.
    """
    blocks, _, lanes = x.shape
    room = blocks * lanes
    row, ranked = np.empty(room), np.empty(room)
    scratch = segment.scratch(room)
    for t in range(start, stop):
        _lay(x, eligible, first + t, row)
        _rank(row, ranked, scratch)
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

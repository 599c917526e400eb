"""Rolling extremes, ranks, quantiles and mean deviation over one tile; see ``tile`` for the conventions."""

import numpy as np

from factors.kernels.compile import kernel
from factors.kernels.order import TIE
from factors.kernels.tile import LANES, at


@kernel
def extremes(x, d, sense, out):
    """Largest value of the window for sense 1, smallest for sense -1, by the block method."""
    rows = len(x)
    suffix, prefix = np.full(LANES * (d + 1), -np.inf), np.empty(LANES)
    for start in range(0, rows, d):
        if start:
            for i in range(d - 1, 0, -1):
                _larger(at(suffix, i + 1, 1), x[start - d + i], sense, at(suffix, i, 1))
        prefix[:] = -np.inf
        for t in range(start, min(start + d, rows)):
            _extend_larger(prefix, x[t], sense)
            _finish_extreme(prefix, at(suffix, t - start + 1, 1), sense, out[t])


@kernel
def _larger(older, x, sense, newer):
    for j in range(LANES):
        v = sense * x[j]
        newer[j] = v if v > older[j] else older[j]


@kernel
def _extend_larger(best, x, sense):
    for j in range(LANES):
        v = sense * x[j]
        best[j] = v if v > best[j] else best[j]


@kernel
def _finish_extreme(prefix, suffix, sense, out):
    for j in range(LANES):
        value = suffix[j] if suffix[j] > prefix[j] else prefix[j]
        out[j] = sense * value if value > -np.inf else np.nan


@kernel
def positions(x, d, sense, out):
    """Rows since the window's oldest largest (sense 1) or smallest (sense -1) value, by the block method."""
    rows = len(x)
    suffix, prefix = np.full(2 * LANES * (d + 1), -np.inf), np.empty(2 * LANES)
    for start in range(0, rows, d):
        if start:
            for i in range(d - 1, 0, -1):
                row = start - d + i
                _older_largest(at(suffix, i + 1, 2), x[row], sense, float(row), at(suffix, i, 2))
        prefix[:] = -np.inf
        for t in range(start, min(start + d, rows)):
            _extend_largest(prefix, x[t], sense, float(t))
            _finish_position(prefix, at(suffix, t - start + 1, 2), float(t), out[t])


@kernel
def _older_largest(state, x, sense, row, older):
    for j in range(LANES):
        v = sense * x[j]
        wins = v >= state[j]
        older[j] = v if wins else state[j]
        older[LANES + j] = row if wins else state[LANES + j]


@kernel
def _extend_largest(state, x, sense, row):
    for j in range(LANES):
        v = sense * x[j]
        wins = v > state[j]
        state[j] = v if wins else state[j]
        state[LANES + j] = row if wins else state[LANES + j]


@kernel
def _finish_position(prefix, suffix, t, out):
    for j in range(LANES):
        older = suffix[j] >= prefix[j]
        value = suffix[j] if older else prefix[j]
        row = suffix[LANES + j] if older else prefix[LANES + j]
        out[j] = t - row if value > -np.inf else np.nan


@kernel
def rank(x, d, out):
    """Percentile rank in (0, 1] of the current value among the window's, ties averaged.

    Every value of the window is compared with the lower and the upper end of what ties with the current one.
    """
    rows = len(x)
    count, ends, halves = np.zeros(LANES), np.empty(2 * LANES), np.empty(LANES)
    for t in range(rows):
        _tally(x[t], x[t - d if t >= d else 0], t >= d, count)
        for j in range(LANES):
            ends[j] = x[t, j] - TIE * abs(x[t, j])
            ends[LANES + j] = x[t, j] + TIE * abs(x[t, j])
        halves[:] = 1.0
        first = max(0, t - d + 1)
        while first + 4 <= t + 1:
            _compare_four(x[first], x[first + 1], x[first + 2], x[first + 3], ends, halves)
            first += 4
        for k in range(first, t + 1):
            _compare(x[k], ends, halves)
        for j in range(LANES):
            out[t, j] = halves[j] * 0.5 / count[j] if x[t, j] == x[t, j] else np.nan


@kernel
def _tally(new, old, leaves, count):
    """Keep the number of known values; whole numbers may be subtracted."""
    for j in range(LANES):
        count[j] += 1.0 if new[j] == new[j] else 0.0
        count[j] -= 1.0 if leaves and old[j] == old[j] else 0.0


@kernel
def _compare_four(p, q, r, s, ends, halves):
    for j in range(LANES):
        low, high, n = ends[j], ends[LANES + j], halves[j]
        n = n + 1.0 if p[j] < low else n
        n = n + 1.0 if p[j] <= high else n
        n = n + 1.0 if q[j] < low else n
        n = n + 1.0 if q[j] <= high else n
        n = n + 1.0 if r[j] < low else n
        n = n + 1.0 if r[j] <= high else n
        n = n + 1.0 if s[j] < low else n
        n = n + 1.0 if s[j] <= high else n
        halves[j] = n


@kernel
def _compare(p, ends, halves):
    for j in range(LANES):
        n = halves[j]
        n = n + 1.0 if p[j] < ends[j] else n
        halves[j] = n + 1.0 if p[j] <= ends[LANES + j] else n


@kernel
def quantile(x, d, q, out):
    """Quantile of the window, linear between neighbours (Hyndman and Fan 1996, type 7).

    Each lane's window is kept in order, padded with infinities. One sweep takes out the row that leaves, closing the
    gap, and puts the new one between its neighbours; for a null, infinity leaves or comes.
    """
    rows = len(x)
    window = np.full(LANES * (d + 2), np.inf)
    count, leaving, coming, carry = np.zeros(LANES), np.full(LANES, np.inf), np.empty(LANES), np.empty(LANES)
    for t in range(rows):
        _tally(x[t], x[t - d if t >= d else 0], t >= d, count)
        _padded(x[t], coming)
        if t >= d:
            _padded(x[t - d], leaving)
        carry[:] = -np.inf
        for i in range(d + 1):
            _sweep(window[i * LANES : (i + 2) * LANES], leaving, coming, carry)
        for j in range(LANES):
            position = q * (count[j] - 1.0)
            low = max(int(position), 0)
            below, above = window[low * LANES + j], window[(low + 1) * LANES + j]
            share = position - low
            value = below + (above - below) * share if share > 0.0 else below
            out[t, j] = value if abs(value) < np.inf else np.nan


@kernel
def _padded(x, out):
    for j in range(LANES):
        out[j] = x[j] if x[j] == x[j] else np.inf


@kernel
def _sweep(pair, leaving, coming, carry):
    for j in range(LANES):
        kept = pair[j] if pair[j] < leaving[j] else pair[LANES + j]
        between = coming[j] if coming[j] < kept else kept
        pair[j] = between if between > carry[j] else carry[j]
        carry[j] = kept


@kernel
def mean_deviation(x, d, out):
    """Mean absolute deviation from the window's mean, which is taken about the window's first value."""
    rows = len(x)
    first, state = np.empty(LANES), np.empty(3 * LANES)
    for t in range(rows):
        start = max(0, t - d + 1)
        first[:] = np.nan
        for k in range(t, start - 1, -1):
            _older(x[k], first)
        state[:] = 0.0
        for k in range(start, t + 1):
            _shift(x[k], first, state)
        for j in range(LANES):
            first[j] += state[LANES + j] / state[j]
        for k in range(start, t + 1):
            _deviate(x[k], first, state)
        for j in range(LANES):
            value = state[2 * LANES + j] / state[j]
            out[t, j] = value if state[j] > 1.0 and value < np.inf else np.nan


@kernel
def _older(x, first):
    for j in range(LANES):
        first[j] = x[j] if x[j] == x[j] else first[j]


@kernel
def _shift(x, first, state):
    for j in range(LANES):
        known = x[j] == x[j]
        state[j] += 1.0 if known else 0.0
        state[LANES + j] += x[j] - first[j] if known else 0.0


@kernel
def _deviate(x, mean, state):
    for j in range(LANES):
        state[2 * LANES + j] += abs(x[j] - mean[j]) if x[j] == x[j] else 0.0

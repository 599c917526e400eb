"""Rolling second and higher moments over one tile; see ``tile`` for the block method.

Deviations are taken from a value near the window, so the one-pass sums lose digits only where the spread is tiny beside
the distance to that anchor. Those cells, and cells that overflowed, are redone in two passes over the window, which
also finds a constant window to be exactly constant.
"""

import numpy as np

from factors.kernels.compile import kernel
from factors.kernels.tile import LANES, at

STD, VAR, ZSCORE = 0, 1, 2

_SAFE = 1e-4  # share of the raw second moment below which the one-pass variance is redone
_SAFE_HIGHER = 3e-3  # the same for third and fourth moments, which cancel more
_SMALL, _LARGE = 1e-60, 1e60  # second moments outside would lose their fourth power's range


@kernel
def moments(x, d, mode, out):
    """Standard deviation, variance or z-score of the current value (ddof 1)."""
    rows = len(x)
    suffix, prefix, anchor = np.zeros(3 * LANES * (d + 1)), np.zeros(3 * LANES), np.zeros(LANES)
    for start in range(0, rows, d):
        settle(x[start], anchor)
        if start:
            for i in range(d - 1, 0, -1):
                _add(at(suffix, i + 1, 3), x[start - d + i], anchor, at(suffix, i, 3))
        prefix[:] = 0.0
        for t in range(start, min(start + d, rows)):
            _extend(prefix, x[t], anchor)
            doubtful = _finish(prefix, at(suffix, t - start + 1, 3), x[t], anchor, mode, out[t])
            for j in range(LANES if doubtful else 0):
                if out[t, j] == np.inf:
                    out[t, j] = _exact(x, t, j, d, mode)


@kernel
def settle(x, anchor):
    """Anchor each lane that has a value now."""
    for j in range(LANES):
        anchor[j] = x[j] if x[j] == x[j] else anchor[j]


@kernel
def _add(older, x, anchor, newer):
    for j in range(LANES):
        known = x[j] == x[j]
        e = x[j] - anchor[j] if known else 0.0
        newer[j] = older[j] + (1.0 if known else 0.0)
        newer[LANES + j] = older[LANES + j] + e
        newer[2 * LANES + j] = older[2 * LANES + j] + e * e


@kernel
def _extend(state, x, anchor):
    for j in range(LANES):
        known = x[j] == x[j]
        e = x[j] - anchor[j] if known else 0.0
        state[j] += 1.0 if known else 0.0
        state[LANES + j] += e
        state[2 * LANES + j] += e * e


@kernel
def _finish(prefix, suffix, x, anchor, mode, out):
    """Fill a row, infinity where it is in doubt; return how often."""
    doubtful = 0
    for j in range(LANES):
        n, m = prefix[j] + suffix[j], prefix[LANES + j] + suffix[LANES + j]
        raw = n * (prefix[2 * LANES + j] + suffix[2 * LANES + j])
        squares = raw - m * m
        variance = squares / (n * (n - 1.0))
        if mode == VAR:
            value = variance
        elif mode == STD:
            value = np.sqrt(variance)
        else:
            value = (n * (x[j] - anchor[j]) - m) / (n * np.sqrt(variance))
        safe = (squares > _SAFE * raw) & (squares < np.inf)
        doubtful += 0 if safe else 1
        out[j] = (value if safe else np.inf) if n > 1.0 else np.nan
    return doubtful


@kernel
def _exact(x, t, j, d, mode):
    n, centre, unit, squares, _ = two_pass(x, t, j, d)
    std = np.sqrt(squares / (n - 1.0))
    if mode == STD:
        value = std * unit
    elif mode == VAR:
        value = std * unit * (std * unit)
    else:
        value = (x[t, j] - centre) / unit / std
    return value if abs(value) < np.inf else np.nan


@kernel
def two_pass(x, t, j, d):
    """(count, mean, unit, sum of squared deviations in that unit, whether all are equal) of one window.

    The unit is the largest deviation, so squares of huge or tiny values neither overflow nor vanish.
    """
    n, first, shift = 0, 0.0, 0.0
    for k in range(max(0, t - d + 1), t + 1):
        v = x[k, j]
        if v == v:
            if n == 0:
                first = v
            shift += v - first
            n += 1
    centre = first + shift / n if n else np.nan
    unit, constant = 0.0, True
    for k in range(max(0, t - d + 1), t + 1):
        v = x[k, j]
        if v == v:
            unit = max(unit, abs(v - centre))
            constant = constant and v == first
    if constant or unit == 0.0:
        return n, first, 1.0, 0.0, True
    squares, rest = 0.0, 0.0
    for k in range(max(0, t - d + 1), t + 1):
        v = x[k, j]
        if v == v:
            e = (v - centre) / unit
            squares += e * e
            rest += e
    return n, centre, unit, squares - rest * rest / n, False


@kernel
def higher_moments(x, d, order, out):
    """Order 3: adjusted skewness; 4: adjusted excess kurtosis."""
    rows = len(x)
    suffix, prefix, anchor = np.zeros(5 * LANES * (d + 1)), np.zeros(5 * LANES), np.zeros(LANES)
    for start in range(0, rows, d):
        settle(x[start], anchor)
        if start:
            for i in range(d - 1, 0, -1):
                _add_higher(at(suffix, i + 1, 5), x[start - d + i], anchor, at(suffix, i, 5))
        prefix[:] = 0.0
        for t in range(start, min(start + d, rows)):
            _extend_higher(prefix, x[t], anchor)
            doubtful = _finish_higher(prefix, at(suffix, t - start + 1, 5), order, out[t])
            for j in range(LANES if doubtful else 0):
                if out[t, j] == np.inf:
                    out[t, j] = _exact_higher(x, t, j, d, order)


@kernel
def _add_higher(older, x, anchor, newer):
    for j in range(LANES):
        known = x[j] == x[j]
        e = x[j] - anchor[j] if known else 0.0
        square = e * e
        newer[j] = older[j] + (1.0 if known else 0.0)
        newer[LANES + j] = older[LANES + j] + e
        newer[2 * LANES + j] = older[2 * LANES + j] + square
        newer[3 * LANES + j] = older[3 * LANES + j] + square * e
        newer[4 * LANES + j] = older[4 * LANES + j] + square * square


@kernel
def _extend_higher(state, x, anchor):
    for j in range(LANES):
        known = x[j] == x[j]
        e = x[j] - anchor[j] if known else 0.0
        square = e * e
        state[j] += 1.0 if known else 0.0
        state[LANES + j] += e
        state[2 * LANES + j] += square
        state[3 * LANES + j] += square * e
        state[4 * LANES + j] += square * square


@kernel
def _finish_higher(prefix, suffix, order, out):
    """Fill a row, infinity where it is in doubt; return how often."""
    doubtful = 0
    for j in range(LANES):
        n = prefix[j] + suffix[j]
        share = 1.0 / n
        m = (prefix[LANES + j] + suffix[LANES + j]) * share
        e2 = (prefix[2 * LANES + j] + suffix[2 * LANES + j]) * share
        e3 = (prefix[3 * LANES + j] + suffix[3 * LANES + j]) * share
        e4 = (prefix[4 * LANES + j] + suffix[4 * LANES + j]) * share
        m2 = e2 - m * m
        m3 = e3 - 3.0 * m * e2 + 2.0 * m * m * m
        m4 = e4 - 4.0 * m * e3 + 6.0 * m * m * e2 - 3.0 * m * m * m * m
        safe = (m2 > _SAFE_HIGHER * e2) & (m2 > _SMALL) & (m2 < _LARGE)
        enough = n >= order
        doubtful += 1 if enough and not safe else 0
        value = shape(order, n, m2, m3, m4)
        out[j] = (value if safe else np.inf) if enough else np.nan
    return doubtful


@kernel
def shape(order, n, m2, m3, m4):
    """Adjusted skewness (order 3) or excess kurtosis (4) of n values with these central moments."""
    if order == 3:
        return m3 / (m2 * np.sqrt(m2)) * np.sqrt(n * (n - 1.0)) / (n - 2.0)
    return (n - 1.0) * ((n + 1.0) * m4 / (m2 * m2) - 3.0 * (n - 1.0)) / ((n - 2.0) * (n - 3.0))


@kernel
def _exact_higher(x, t, j, d, order):
    n, centre, unit, squares, constant = two_pass(x, t, j, d)
    if constant:
        return np.nan
    m3, m4 = 0.0, 0.0
    for k in range(max(0, t - d + 1), t + 1):
        v = x[k, j]
        if v == v:
            e = (v - centre) / unit
            m3 += e * e * e
            m4 += e * e * e * e
    value = shape(order, float(n), squares / n, m3 / n, m4 / n)
    return value if abs(value) < np.inf else np.nan

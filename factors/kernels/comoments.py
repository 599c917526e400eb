"""Rolling moments of pairs over one tile; see ``tile`` for the block method and ``moments`` for the anchors."""

import numpy as np

from factors.kernels.compile import kernel
from factors.kernels.tile import LANES, at

CORRELATION, COVARIANCE, SLOPE, RESIDUAL, R_SQUARED = 0, 1, 2, 3, 4

_SAFE = 1e-4  # share of a raw second moment below which the one-pass sums are redone
_SMALL, _LARGE = 1e-140, 1e140  # second moments outside would lose their product's range


@kernel
def comoments(x, y, d, mode, out):
    """Correlation, covariance, slope of y on x, the current y's distance from that line, or its R squared."""
    rows = len(x)
    suffix, prefix, anchor = np.zeros(6 * LANES * (d + 1)), np.zeros(6 * LANES), np.zeros(2 * LANES)
    for start in range(0, rows, d):
        _settle(x[start], y[start], anchor)
        if start:
            for i in range(d - 1, 0, -1):
                row = start - d + i
                _add(at(suffix, i + 1, 6), x[row], y[row], anchor, at(suffix, i, 6))
        prefix[:] = 0.0
        for t in range(start, min(start + d, rows)):
            _extend(prefix, x[t], y[t], anchor)
            doubtful = _finish(prefix, at(suffix, t - start + 1, 6), x[t], y[t], anchor, mode, out[t])
            for j in range(LANES if doubtful else 0):
                if out[t, j] == np.inf:
                    out[t, j] = _exact(x, y, t, j, d, mode)


@kernel
def _settle(x, y, anchor):
    for j in range(LANES):
        both = x[j] == x[j] and y[j] == y[j]
        anchor[j] = x[j] if both else anchor[j]
        anchor[LANES + j] = y[j] if both else anchor[LANES + j]


@kernel
def _add(older, x, y, anchor, newer):
    for j in range(LANES):
        p, q = x[j] - anchor[j], y[j] - anchor[LANES + j]
        known = x[j] == x[j] and y[j] == y[j]
        p, q = (p if known else 0.0), (q if known else 0.0)
        newer[j] = older[j] + (1.0 if known else 0.0)
        newer[LANES + j] = older[LANES + j] + p
        newer[2 * LANES + j] = older[2 * LANES + j] + q
        newer[3 * LANES + j] = older[3 * LANES + j] + p * p
        newer[4 * LANES + j] = older[4 * LANES + j] + q * q
        newer[5 * LANES + j] = older[5 * LANES + j] + p * q


@kernel
def _extend(state, x, y, anchor):
    for j in range(LANES):
        p, q = x[j] - anchor[j], y[j] - anchor[LANES + j]
        known = x[j] == x[j] and y[j] == y[j]
        p, q = (p if known else 0.0), (q if known else 0.0)
        state[j] += 1.0 if known else 0.0
        state[LANES + j] += p
        state[2 * LANES + j] += q
        state[3 * LANES + j] += p * p
        state[4 * LANES + j] += q * q
        state[5 * LANES + j] += p * q


@kernel
def _finish(prefix, suffix, x, y, anchor, mode, out):
    """Fill a row, infinity where it is in doubt; return how often. Sums are scaled by n, which saves divisions."""
    doubtful = 0
    for j in range(LANES):
        n = prefix[j] + suffix[j]
        sx, sy = prefix[LANES + j] + suffix[LANES + j], prefix[2 * LANES + j] + suffix[2 * LANES + j]
        raw_x = n * (prefix[3 * LANES + j] + suffix[3 * LANES + j])
        raw_y = n * (prefix[4 * LANES + j] + suffix[4 * LANES + j])
        xx, yy = raw_x - sx * sx, raw_y - sy * sy
        xy = n * (prefix[5 * LANES + j] + suffix[5 * LANES + j]) - sx * sy
        dx, dy = n * (x[j] - anchor[j]) - sx, n * (y[j] - anchor[LANES + j]) - sy
        value = _pair(mode, n, xx, yy, xy, dx, dy)
        safe = (xx > _SAFE * raw_x) & (yy > _SAFE * raw_y)
        safe &= (xx > _SMALL) & (xx < _LARGE) & (yy > _SMALL) & (yy < _LARGE)
        doubtful += 0 if safe else 1
        out[j] = (value if safe else np.inf) if n > 1.0 else np.nan
    return doubtful


@kernel
def _pair(mode, n, xx, yy, xy, dx, dy):
    """What is asked for, of sums of squares and products n times and distances from the mean n times too large."""
    if mode == CORRELATION:
        return min(1.0, max(-1.0, xy / np.sqrt(xx * yy)))
    if mode == COVARIANCE:
        return xy / (n * (n - 1.0))
    if mode == SLOPE:
        return xy / xx
    if mode == RESIDUAL:
        return (dy - xy / xx * dx) / n
    return min(1.0, xy / xx * (xy / yy))


@kernel
def _exact(x, y, t, j, d, mode):
    """What is asked for of one window in two passes, null where a constant x or y leaves it undefined."""
    n, x0, y0, sx, sy, flat_x, flat_y = 0, 0.0, 0.0, 0.0, 0.0, True, True
    for k in range(max(0, t - d + 1), t + 1):
        v, w = x[k, j], y[k, j]
        if v == v and w == w:
            if n == 0:
                x0, y0 = v, w
            flat_x = flat_x and v == x0
            flat_y = flat_y and w == y0
            sx += v - x0
            sy += w - y0
            n += 1
    if (flat_x and mode != COVARIANCE) or (flat_y and mode in (CORRELATION, R_SQUARED)):
        return np.nan
    if flat_x or flat_y:
        return 0.0 * (x[t, j] + y[t, j]) if mode == RESIDUAL else 0.0
    mx, my = x0 + sx / n, y0 + sy / n
    unit_x, unit_y = 0.0, 0.0
    for k in range(max(0, t - d + 1), t + 1):
        v, w = x[k, j], y[k, j]
        if v == v and w == w:
            unit_x, unit_y = max(unit_x, abs(v - mx)), max(unit_y, abs(w - my))
    xx, yy, xy = 0.0, 0.0, 0.0
    for k in range(max(0, t - d + 1), t + 1):
        v, w = x[k, j], y[k, j]
        if v == v and w == w:
            p, q = (v - mx) / unit_x, (w - my) / unit_y
            xx += p * p
            yy += q * q
            xy += p * q
    dx, dy = (x[t, j] - mx) / unit_x, (y[t, j] - my) / unit_y
    value = _pair(mode, float(n), n * xx, n * yy, n * xy, n * dx, n * dy)
    if mode == COVARIANCE:
        value *= unit_x * unit_y
    elif mode == SLOPE:
        value *= unit_y / unit_x
    elif mode == RESIDUAL:
        value *= unit_y
    return value if abs(value) < np.inf else np.nan

"""Rolling second and higher moments over one tile; see ``rolling`` for the conventions and the block method.

Deviations are taken from a value near the window, so the one-pass sums lose digits only where the spread is tiny beside
the distance to that anchor. Those cells, and cells that overflowed, are redone in two passes over the window, which
also finds a constant window to be exactly constant.
"""

import numpy as np

from factors.kernels.compile import kernel

_SAFE = 1e-4  # share of the raw second moment below which the one-pass variance is redone
_SAFE_HIGHER = 1e-2  # the same for third and fourth moments, which cancel more
_SMALL, _LARGE = 1e-60, 1e60  # second moments outside would lose their fourth power's range


@kernel
def _two_pass(x, t, j, d):
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
def _finish(mode, now, n, centre, unit, squares):
    std = np.sqrt(squares / (n - 1.0))
    if mode == 0:
        value = std * unit
    elif mode == 1:
        value = std * unit * (std * unit)
    else:
        value = (now - centre) / unit / std
    return value if n > 1.0 and abs(value) < np.inf else np.nan


@kernel
def moments(x, d, mode, out):
    """Mode 0: standard deviation; 1: variance; 2: z-score of the current value."""
    rows, lanes = x.shape
    s1, s2, sn = np.zeros((d + 1, lanes)), np.zeros((d + 1, lanes)), np.zeros((d + 1, lanes))
    a1, a2, an, anchor = np.empty(lanes), np.empty(lanes), np.empty(lanes), np.zeros(lanes)
    for start in range(0, rows, d):
        for j in range(lanes):
            anchor[j] = x[start, j] if x[start, j] == x[start, j] else anchor[j]
        a1[:], a2[:], an[:] = 0.0, 0.0, 0.0
        if start:
            for i in range(d - 1, 0, -1):
                for j in range(lanes):
                    v = x[start - d + i, j]
                    e = v - anchor[j] if v == v else 0.0
                    a1[j] += e
                    a2[j] += e * e
                    an[j] += 1.0 if v == v else 0.0
                    s1[i, j], s2[i, j], sn[i, j] = a1[j], a2[j], an[j]
            a1[:], a2[:], an[:] = 0.0, 0.0, 0.0
        for i in range(min(d, rows - start)):
            t = start + i
            doubtful = 0
            for j in range(lanes):
                v = x[t, j]
                e = v - anchor[j] if v == v else 0.0
                a1[j] += e
                a2[j] += e * e
                an[j] += 1.0 if v == v else 0.0
                n, m, q = an[j] + sn[i + 1, j], a1[j] + s1[i + 1, j], a2[j] + s2[i + 1, j]
                squares = q - m * m / n
                out[t, j] = _finish(mode, v, n, anchor[j] + m / n, 1.0, squares)
                doubtful += 0 if squares > _SAFE * q else 1
            if doubtful:
                for j in range(lanes):
                    n, m, q = an[j] + sn[i + 1, j], a1[j] + s1[i + 1, j], a2[j] + s2[i + 1, j]
                    if n > 1.0 and not q - m * m / n > _SAFE * q:
                        count, centre, unit, squares, _ = _two_pass(x, t, j, d)
                        out[t, j] = _finish(mode, x[t, j], count, centre, unit, squares)


@kernel
def _exact_higher(x, t, j, d, order):
    """G1 (order 3) or G2 (order 4) of one window in two passes."""
    n, centre, unit, squares, constant = _two_pass(x, t, j, d)
    if n < order or constant:
        return np.nan
    m2, m3, m4 = squares / n, 0.0, 0.0
    for k in range(max(0, t - d + 1), t + 1):
        v = x[k, j]
        if v == v:
            e = (v - centre) / unit
            m3 += e * e * e
            m4 += e * e * e * e
    return _shape(order, float(n), m2, m3 / n, m4 / n)


@kernel
def _shape(order, n, m2, m3, m4):
    if order == 3:
        value = m3 / (m2 * np.sqrt(m2)) * np.sqrt(n * (n - 1.0)) / (n - 2.0)
    else:
        value = (n - 1.0) / ((n - 2.0) * (n - 3.0)) * ((n + 1.0) * m4 / (m2 * m2) - 3.0 * (n - 1.0))
    return value if abs(value) < np.inf else np.nan


@kernel
def higher_moments(x, d, order, out):
    """Order 3: adjusted skewness; 4: adjusted excess kurtosis."""
    rows, lanes = x.shape
    suffix, sums = np.zeros((5, d + 1, lanes)), np.zeros((5, lanes))
    anchor = np.zeros(lanes)
    for start in range(0, rows, d):
        for j in range(lanes):
            anchor[j] = x[start, j] if x[start, j] == x[start, j] else anchor[j]
        sums[:] = 0.0
        if start:
            for i in range(d - 1, 0, -1):
                for j in range(lanes):
                    _accumulate(sums, x[start - d + i, j], anchor[j], j)
                    for p in range(5):
                        suffix[p, i, j] = sums[p, j]
            sums[:] = 0.0
        for i in range(min(d, rows - start)):
            t = start + i
            for j in range(lanes):
                _accumulate(sums, x[t, j], anchor[j], j)
                n = sums[0, j] + suffix[0, i + 1, j]
                if n < order:
                    out[t, j] = np.nan
                    continue
                m = (sums[1, j] + suffix[1, i + 1, j]) / n
                e2 = (sums[2, j] + suffix[2, i + 1, j]) / n
                e3 = (sums[3, j] + suffix[3, i + 1, j]) / n
                e4 = (sums[4, j] + suffix[4, i + 1, j]) / n
                m2 = e2 - m * m
                if not (m2 > _SAFE_HIGHER * e2 and _SMALL < m2 < _LARGE):
                    out[t, j] = _exact_higher(x, t, j, d, order)
                    continue
                m3 = e3 - 3.0 * m * e2 + 2.0 * m * m * m
                m4 = e4 - 4.0 * m * e3 + 6.0 * m * m * e2 - 3.0 * m * m * m * m
                out[t, j] = _shape(order, n, m2, m3, m4)


@kernel
def _accumulate(sums, v, anchor, j):
    if v == v:
        e = v - anchor
        sums[0, j] += 1.0
        sums[1, j] += e
        sums[2, j] += e * e
        sums[3, j] += e * e * e
        sums[4, j] += e * e * e * e


@kernel
def _exact_pair(x, y, t, j, d, mode):
    """What :func:`comoments` computes, of one window in two passes."""
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
    if n < 2 or (flat_x and mode != 1) or (flat_y and mode in (0, 4)):
        return np.nan
    mx, my = x0 + sx / n, y0 + sy / n
    if flat_x or flat_y:
        return 0.0 * (x[t, j] + y[t, j]) if mode == 3 else 0.0
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
    value = _pair(mode, float(n), xx, yy, xy, dx, dy)
    if mode == 1:
        value *= unit_x * unit_y
    elif mode == 2:
        value *= unit_y / unit_x
    elif mode == 3:
        value *= unit_y
    return value if abs(value) < np.inf else np.nan


@kernel
def _pair(mode, n, xx, yy, xy, dx, dy):
    if mode in (0, 4):
        value = min(1.0, max(-1.0, xy / (np.sqrt(xx) * np.sqrt(yy))))
        value = value * value if mode == 4 else value
    elif mode == 1:
        value = xy / (n - 1.0)
    else:
        value = xy / xx if mode == 2 else dy - xy / xx * dx
    return value if abs(value) < np.inf else np.nan


@kernel
def comoments(x, y, d, mode, out):
    """Mode 0: correlation; 1: covariance; 2: slope of y on x; 3: the current y's distance from that line; 4: R²."""
    rows, lanes = x.shape
    suffix, sums = np.zeros((6, d + 1, lanes)), np.zeros((6, lanes))
    ax, ay = np.zeros(lanes), np.zeros(lanes)
    for start in range(0, rows, d):
        for j in range(lanes):
            both = x[start, j] == x[start, j] and y[start, j] == y[start, j]
            ax[j] = x[start, j] if both else ax[j]
            ay[j] = y[start, j] if both else ay[j]
        sums[:] = 0.0
        if start:
            for i in range(d - 1, 0, -1):
                for j in range(lanes):
                    _accumulate_pair(sums, x[start - d + i, j], y[start - d + i, j], ax[j], ay[j], j)
                for p in range(6):
                    for j in range(lanes):
                        suffix[p, i, j] = sums[p, j]
            sums[:] = 0.0
        for i in range(min(d, rows - start)):
            t = start + i
            for j in range(lanes):
                _accumulate_pair(sums, x[t, j], y[t, j], ax[j], ay[j], j)
            for j in range(lanes):
                n = sums[0, j] + suffix[0, i + 1, j]
                sx, sy = sums[1, j] + suffix[1, i + 1, j], sums[2, j] + suffix[2, i + 1, j]
                qx, qy = sums[3, j] + suffix[3, i + 1, j], sums[4, j] + suffix[4, i + 1, j]
                xx, yy = qx - sx * sx / n, qy - sy * sy / n
                xy = sums[5, j] + suffix[5, i + 1, j] - sx * sy / n
                if n < 2.0:
                    out[t, j] = np.nan
                elif xx > _SAFE * qx and yy > _SAFE * qy:
                    dx, dy = x[t, j] - (ax[j] + sx / n), y[t, j] - (ay[j] + sy / n)
                    out[t, j] = _pair(mode, n, xx, yy, xy, dx, dy)
                else:
                    out[t, j] = _exact_pair(x, y, t, j, d, mode)


@kernel
def _accumulate_pair(sums, v, w, ax, ay, j):
    known = v == v and w == w
    p, q = (v - ax if known else 0.0), (w - ay if known else 0.0)
    sums[0, j] += 1.0 if known else 0.0
    sums[1, j] += p
    sums[2, j] += q
    sums[3, j] += p * p
    sums[4, j] += q * q
    sums[5, j] += p * q

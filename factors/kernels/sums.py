"""Rolling sums, weighted sums and products over one tile; see ``tile`` for the block method."""

import math

import numpy as np

from factors.kernels.compile import kernel
from factors.kernels.moments import settle, two_pass
from factors.kernels.tile import LANES, at

_FAR = 1e3  # times larger than the window's values an anchor costs three of their sixteen digits
_SMALL, _LARGE = 1e-140, 1e140  # a product of two parts inside can neither overflow nor lose digits


@kernel
def total(x, d, out):
    """Sum of the window."""
    rows = len(x)
    suffix, prefix, zero = np.zeros(2 * LANES * (d + 1)), np.zeros(2 * LANES), np.zeros(LANES)
    for start in range(0, rows, d):
        if start:
            for i in range(d - 1, 0, -1):
                _add(at(suffix, i + 1, 2), x[start - d + i], zero, at(suffix, i, 2))
        prefix[:] = 0.0
        for t in range(start, min(start + d, rows)):
            _extend(prefix, x[t], zero)
            _finish_total(prefix, at(suffix, t - start + 1, 2), out[t])


@kernel
def mean(x, d, out):
    """Mean of the window, about an anchor near it, so that equal values have exactly their own as mean.

    Where the anchor is far larger than what the window holds, a spike that is not in it, the window is summed afresh.
    """
    rows = len(x)
    suffix, prefix, anchor = np.zeros(2 * LANES * (d + 1)), np.zeros(2 * LANES), np.zeros(LANES)
    for start in range(0, rows, d):
        settle(x[start], anchor)
        if start:
            for i in range(d - 1, 0, -1):
                _add(at(suffix, i + 1, 2), x[start - d + i], anchor, at(suffix, i, 2))
        prefix[:] = 0.0
        for t in range(start, min(start + d, rows)):
            _extend(prefix, x[t], anchor)
            doubtful = _finish_mean(prefix, at(suffix, t - start + 1, 2), x[t], anchor, out[t])
            for j in range(LANES if doubtful else 0):
                if out[t, j] == np.inf:
                    value = two_pass(x, t, j, d)[1]
                    out[t, j] = value if abs(value) < np.inf else np.nan


@kernel
def _add(older, x, anchor, newer):
    for j in range(LANES):
        known = x[j] == x[j]
        newer[j] = older[j] + (x[j] - anchor[j] if known else 0.0)
        newer[LANES + j] = older[LANES + j] + (1.0 if known else 0.0)


@kernel
def _extend(state, x, anchor):
    for j in range(LANES):
        known = x[j] == x[j]
        state[j] += x[j] - anchor[j] if known else 0.0
        state[LANES + j] += 1.0 if known else 0.0


@kernel
def _finish_total(prefix, suffix, out):
    for j in range(LANES):
        n, value = prefix[LANES + j] + suffix[LANES + j], prefix[j] + suffix[j]
        out[j] = value if n > 0.0 and abs(value) < np.inf else np.nan


@kernel
def _finish_mean(prefix, suffix, x, anchor, out):
    """Fill a row, infinity where it is in doubt; return how often."""
    doubtful = 0
    for j in range(LANES):
        n = prefix[LANES + j] + suffix[LANES + j]
        value = anchor[j] + (prefix[j] + suffix[j]) / n
        safe = (abs(anchor[j]) <= _FAR * abs(value)) | (abs(anchor[j]) <= _FAR * abs(x[j]))
        safe &= abs(value) < np.inf
        doubtful += 1 if n > 0.0 and not safe else 0
        out[j] = (value if safe else np.inf) if n > 0.0 else np.nan
    return doubtful


@kernel
def weighted_mean(x, d, out):
    """Mean of the window with weights d, d-1, …, 1 from the newest row back, over the weights of known rows.

    A row's weight in the suffix is the number of suffixes up to the window's that hold it, so its weighted sum is the
    sum of their sums.
    """
    rows = len(x)
    suffix, prefix = np.zeros(4 * LANES * (d + 1)), np.zeros(4 * LANES)
    for start in range(0, rows, d):
        if start:
            for i in range(d - 1, 0, -1):
                _add_weighted(at(suffix, i + 1, 4), x[start - d + i], at(suffix, i, 4))
        prefix[:] = 0.0
        for i in range(min(d, rows - start)):
            _extend_weighted(prefix, x[start + i], float(i))
            _finish_weighted(prefix, at(suffix, i + 1, 4), float(d - i), out[start + i])


@kernel
def _add_weighted(older, x, newer):
    for j in range(LANES):
        known = x[j] == x[j]
        total = older[j] + (x[j] if known else 0.0)
        n = older[LANES + j] + (1.0 if known else 0.0)
        newer[j] = total
        newer[LANES + j] = n
        newer[2 * LANES + j] = older[2 * LANES + j] + total
        newer[3 * LANES + j] = older[3 * LANES + j] + n


@kernel
def _extend_weighted(state, x, i):
    for j in range(LANES):
        known = x[j] == x[j]
        v, one = (x[j] if known else 0.0), (1.0 if known else 0.0)
        state[j] += v
        state[LANES + j] += one
        state[2 * LANES + j] += v * i
        state[3 * LANES + j] += one * i


@kernel
def _finish_weighted(prefix, suffix, base, out):
    for j in range(LANES):
        total = suffix[2 * LANES + j] + (prefix[2 * LANES + j] + base * prefix[j])
        weight = suffix[3 * LANES + j] + (prefix[3 * LANES + j] + base * prefix[LANES + j])
        value = total / weight
        out[j] = value if abs(value) < np.inf else np.nan


@kernel
def product(x, d, out):
    """Product of the window; where a part of it leaves the safe range, mantissas and exponents are multiplied."""
    rows = len(x)
    suffix, prefix = np.zeros(2 * LANES * (d + 1)), np.zeros(2 * LANES)
    suffix.reshape(d + 1, 2, LANES)[:, 0] = 1.0
    for start in range(0, rows, d):
        if start:
            for i in range(d - 1, 0, -1):
                _multiply(at(suffix, i + 1, 2), x[start - d + i], at(suffix, i, 2))
        prefix[:LANES], prefix[LANES:] = 1.0, 0.0
        for i in range(min(d, rows - start)):
            _multiply(prefix, x[start + i], prefix)
            doubtful = _finish_product(prefix, at(suffix, i + 1, 2), out[start + i])
            for j in range(LANES if doubtful else 0):
                if out[start + i, j] == np.inf:
                    out[start + i, j] = _exact_product(x, start + i, j, d)


@kernel
def _multiply(older, x, newer):
    for j in range(LANES):
        known = x[j] == x[j]
        newer[j] = older[j] * (x[j] if known else 1.0)
        newer[LANES + j] = older[LANES + j] + (1.0 if known else 0.0)


@kernel
def _finish_product(prefix, suffix, out):
    """Fill a row, infinity where it is in doubt; return how often."""
    doubtful = 0
    for j in range(LANES):
        p, q = abs(prefix[j]), abs(suffix[j])
        safe = (p > _SMALL) & (p < _LARGE) & (q > _SMALL) & (q < _LARGE)
        known = prefix[LANES + j] + suffix[LANES + j] > 0.0
        doubtful += 1 if known and not safe else 0
        out[j] = (prefix[j] * suffix[j] if safe else np.inf) if known else np.nan
    return doubtful


@kernel
def _exact_product(x, t, j, d):
    mantissa, exponent = 1.0, 0
    for k in range(max(0, t - d + 1), t + 1):
        if x[k, j] == x[k, j]:
            part, power = math.frexp(x[k, j])
            mantissa *= part
            exponent += power
            mantissa, power = math.frexp(mantissa)
            exponent += power
    value = math.ldexp(mantissa, exponent)
    return value if abs(value) < np.inf else np.nan

"""Sorting one day's values: a radix sort on the leading bits, put right by insertion on the full values.

Ranks need the order of a few hundred to a few thousand finite floats a day. Two counting passes over 20 bits (16 for
few values), taken where the day's values differ, leave only neighbours to exchange; where they do not, because the
values crowd in a sliver of their range, a comparison sort takes over.
"""

import numpy as np

from factors.kernels.compile import kernel

TIE = 1e-12  # relative distance under which neighbours rank equal

_FEW = 1024  # values up to which a smaller histogram is faster
_MAGNITUDE = 0x7FFFFFFFFFFFFFFF  # all bits of a float but the sign
_PATIENCE = 4  # exchanges a value after which insertion gives way to a comparison sort


@kernel
def workspace(size):
    """Scratch arrays for :func:`ascend` of up to ``size`` values."""
    return (
        np.empty(size, np.int64),
        np.empty(size, np.uint32),
        np.empty(size, np.uint32),
        np.empty(size, np.uint32),
        np.empty((2, 1024), np.uint32),
    )


@kernel
def ascend(v, values, cells, n, order, ordered, scratch):
    """Fill ``order[:n]`` with the cells of the finite ``values[:n]`` in ascending order, ``ordered`` with them.

    ``values[i]`` is ``v[cells[i]]``, with minus zero made zero. Equal values come in any order.
    """
    if n == 0:
        return
    wide, keys, sorted_keys, places, counts = scratch
    bits = 8 if n <= _FEW else 10
    _keys(values, n, 2 * bits, wide, keys)
    mask = np.uint32((1 << bits) - 1)
    shift = np.uint32(bits)
    low, high = counts[0], counts[1]
    low[: 1 << bits] = 0
    high[: 1 << bits] = 0
    for i in range(n):
        low[keys[i] & mask] += 1
        high[keys[i] >> shift] += 1
    below_low, below_high = 0, 0
    for digit in range(1 << bits):
        count_low, count_high = low[digit], high[digit]
        low[digit], high[digit] = below_low, below_high
        below_low += count_low
        below_high += count_high
    for i in range(n):
        key = keys[i]
        place = low[key & mask]
        low[key & mask] = place + 1
        sorted_keys[place] = key
        places[place] = cells[i]
    for i in range(n):
        digit = sorted_keys[i] >> shift
        place = high[digit]
        high[digit] = place + 1
        order[place] = places[i]
        ordered[place] = v[places[i]] + 0.0
    if not _insert(ordered, order, n):
        positions = np.argsort(values[:n])
        for i in range(n):
            order[i], ordered[i] = cells[positions[i]], values[positions[i]]


@kernel
def _keys(values, n, bits, wide, keys):
    """The leading bits in which the values differ, as unsigned integers in the values' order.

    A float's magnitude is ordered as its bits are. Magnitudes under 2**-64 of the largest count as 0, or the exponents
    around 0 would take up nearly all of the range that values of both signs have.
    """
    raw = values.view(np.int64)
    top = np.int64(0)
    for i in range(n):
        top = max(top, raw[i] & _MAGNITUDE)
    least = max(top - (np.int64(64) << np.int64(52)), np.int64(0))
    smallest, largest = np.int64(_MAGNITUDE), -np.int64(_MAGNITUDE)
    for i in range(n):
        word = max((raw[i] & _MAGNITUDE) - least, np.int64(0))
        word = -word if raw[i] < 0 else word
        wide[i] = word
        smallest = min(smallest, word)
        largest = max(largest, word)
    span = np.uint64(largest - smallest)
    shift = np.uint64(0)
    while (span >> shift) >> np.uint64(bits):
        shift += np.uint64(1)
    for i in range(n):
        keys[i] = np.uint32(np.uint64(wide[i] - smallest) >> shift)


@kernel
def _insert(ordered, order, n):
    """Exchange what is out of order; False, half done, if that is too much."""
    left = _PATIENCE * n
    for i in range(1, n):
        value = ordered[i]
        if ordered[i - 1] <= value:
            continue
        position = order[i]
        place = i
        while place > 0 and ordered[place - 1] > value:
            ordered[place], order[place] = ordered[place - 1], order[place - 1]
            place -= 1
        ordered[place], order[place] = value, position
        left -= i - place
        if left < 0:
            return False
    return True


@kernel
def tied(low, high):
    """Whether two neighbours of an ascending order rank equal."""
    return high - low <= TIE * max(abs(low), abs(high))

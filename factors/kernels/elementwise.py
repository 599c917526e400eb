"""Elementwise kernels: arrays or floats in, a float64 array out; null is NaN, in and out.

A null argument gives null, except in :func:`where`, whose branch not taken may be null. NaN and infinities become null.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
_Function = Callable[..., Any]


def _total(function: _Function) -> Callable[..., Values]:
    """``function`` with whatever is not a finite number made null."""

    def kernel(*args: Values | float) -> Values:
        with np.errstate(all="ignore"):
            out = np.asarray(function(*args), dtype=np.float64)
        return np.where(np.isfinite(out), out, np.nan)

    return kernel


def _predicate(function: _Function) -> Callable[..., Values]:
    """``function`` as 1.0 or 0.0, null where an argument is null."""

    def kernel(*args: Values | float) -> Values:
        known = np.logical_and.reduce(np.broadcast_arrays(*(np.isfinite(arg) for arg in args)))
        return np.where(known, np.asarray(function(*args), dtype=np.float64), np.nan)

    return kernel


def where(condition: Values | float, x: Values | float, y: Values | float) -> Values:
    """``x`` where the condition is not 0, else ``y``; null where the condition is null."""
    condition = np.asarray(condition, dtype=np.float64)
    return np.where(np.isnan(condition), np.nan, np.where(condition != 0, x, y))


def _power(x: Values | float, y: Values | float) -> Values:
    """NumPy's power with null for null: IEEE would give ``1 ** NaN = NaN ** 0 = 1``."""
    return np.where(np.isnan(x) | np.isnan(y), np.nan, np.power(x, y))


absolute = _total(np.abs)
sign = _total(np.sign)
log = _total(np.log)
log1p = _total(np.log1p)
sqrt = _total(np.sqrt)
exp = _total(np.exp)
invert = _total(lambda x: np.divide(1.0, x))
floor = _total(np.floor)
negate = _total(np.negative)
power = _total(_power)
signed_power = _total(lambda x, y: np.sign(x) * _power(np.abs(x), y))
maximum = _total(np.maximum)
minimum = _total(np.minimum)
clip = _total(lambda x, low, high: np.minimum(np.maximum(x, low), high))
add = _total(np.add)
subtract = _total(np.subtract)
multiply = _total(np.multiply)
divide = _total(np.divide)

less = _predicate(np.less)
greater = _predicate(np.greater)
less_equal = _predicate(np.less_equal)
greater_equal = _predicate(np.greater_equal)
equal = _predicate(np.equal)
not_equal = _predicate(np.not_equal)
logical_not = _predicate(np.logical_not)
logical_and = _predicate(np.logical_and)
logical_or = _predicate(np.logical_or)

"""Elementwise kernels over one tile: ``[T, L]`` float64 arrays or floats in, ``out`` filled; NaN is null, in and out.

A null argument gives null, except in :func:`where`, whose branch not taken may be null. NaN and infinities become null.
``out`` may be one of the arguments.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from factors.kernels.compile import kernel

Values = NDArray[np.float64]
Operand: TypeAlias = Values | float

_ADD, _SUBTRACT, _MULTIPLY, _DIVIDE = 0, 1, 2, 3


def _exact(function: Callable[..., Values]) -> Callable[..., None]:
    """``function``, which makes no infinity and no NaN of finite numbers."""

    def apply(*args: Operand | Values) -> None:
        function(*args[:-1], out=args[-1])

    return apply


def _total(function: Callable[..., Values]) -> Callable[..., None]:
    """``function`` with whatever is not a finite number made null."""

    def apply(*args: Operand | Values) -> None:
        with np.errstate(all="ignore"):
            function(*args[:-1], out=args[-1])
        clean(args[-1])

    return apply


@kernel
def clean(x):
    """Make infinities null, in place."""
    for t in range(len(x)):
        row = x[t]
        for j in range(len(row)):
            row[j] = row[j] if abs(row[j]) < np.inf else np.nan


def _arithmetic(sign: int) -> Callable[[Operand, Operand, Values], None]:
    """One of the four operations."""

    def apply(x: Operand, y: Operand, out: Values) -> None:
        _combine(_rows(x, out), _rows(y, out), sign, out)

    return apply


def _comparison(below: float, equal: float, above: float) -> Callable[[Operand, Operand, Values], None]:
    """The predicate that has these values where x < y, x = y and x > y."""

    def apply(x: Operand, y: Operand, out: Values) -> None:
        _compare(_rows(x, out), _rows(y, out), below, equal, above, out)

    return apply


def _rows(x: Operand, out: Values) -> Values:
    """An array as it is; a float as one row that stands for all."""
    return x if isinstance(x, np.ndarray) else np.full((1, out.shape[1]), x)


@kernel
def _row(x, t):
    return x[t if len(x) > 1 else 0]


@kernel
def _combine(x, y, sign, out):
    for t in range(len(out)):
        a, b, c = _row(x, t), _row(y, t), out[t]
        for j in range(len(c)):
            if sign == _ADD:
                value = a[j] + b[j]
            elif sign == _SUBTRACT:
                value = a[j] - b[j]
            elif sign == _MULTIPLY:
                value = a[j] * b[j]
            else:
                value = a[j] / b[j]
            c[j] = value if abs(value) < np.inf else np.nan


@kernel
def _compare(x, y, below, equal, above, out):
    for t in range(len(out)):
        a, b, c = _row(x, t), _row(y, t), out[t]
        for j in range(len(c)):
            p, q = a[j], b[j]
            apart = below if p < q else above
            known = p == p and q == q
            c[j] = (equal if p == q else apart) if known else np.nan


def logical_and(x: Operand, y: Operand, out: Values) -> None:
    """1 where neither is 0, else 0."""
    _logical(_rows(x, out), _rows(y, out), 2.0, out)


def logical_or(x: Operand, y: Operand, out: Values) -> None:
    """1 where not both are 0, else 0."""
    _logical(_rows(x, out), _rows(y, out), 1.0, out)


def logical_not(x: Operand, out: Values) -> None:
    """1 where the value is 0, else 0."""
    equal(x, 0.0, out)


@kernel
def _logical(x, y, needed, out):
    """1 where at least so many of both are true."""
    for t in range(len(out)):
        a, b, c = _row(x, t), _row(y, t), out[t]
        for j in range(len(c)):
            p, q = a[j], b[j]
            true = (1.0 if p != 0.0 else 0.0) + (1.0 if q != 0.0 else 0.0)
            known = p == p and q == q
            c[j] = (1.0 if true >= needed else 0.0) if known else np.nan


def where(condition: Operand, x: Operand, y: Operand, out: Values) -> None:
    """``x`` where the condition is not 0, else ``y``; null where the condition is null."""
    _where(_rows(condition, out), _rows(x, out), _rows(y, out), out)


@kernel
def _where(condition, x, y, out):
    for t in range(len(out)):
        truth, a, b, c = _row(condition, t), _row(x, t), _row(y, t), out[t]
        for j in range(len(c)):
            p = truth[j]
            chosen = a[j] if p != 0.0 else b[j]
            c[j] = chosen if p == p else np.nan


def power(x: Operand, y: Operand, out: Values) -> None:
    """NumPy's power with null for null: IEEE would give ``1 ** NaN = NaN ** 0 = 1``."""
    unknown = np.isnan(x) | np.isnan(y)
    with np.errstate(all="ignore"):
        np.power(x, y, out=out)
    out[np.broadcast_to(unknown, out.shape)] = np.nan
    clean(out)


def signed_power(x: Operand, y: Operand, out: Values) -> None:
    """The power of the magnitude, with the sign of x."""
    sign = np.sign(x)
    power(np.abs(x), y, out)
    out *= sign


def clip(x: Operand, low: float, high: float, out: Values) -> None:
    """X held between two literals."""
    np.minimum(np.maximum(x, low, out=out), high, out=out)


absolute = _exact(np.abs)
sign = _exact(np.sign)
floor = _exact(np.floor)
negate = _exact(np.negative)
maximum = _exact(np.maximum)
minimum = _exact(np.minimum)
log = _total(np.log)
log1p = _total(np.log1p)
sqrt = _total(np.sqrt)
exp = _total(np.exp)
invert = _total(np.reciprocal)
add = _arithmetic(_ADD)
subtract = _arithmetic(_SUBTRACT)
multiply = _arithmetic(_MULTIPLY)
divide = _arithmetic(_DIVIDE)

less = _comparison(1.0, 0.0, 0.0)
greater = _comparison(0.0, 0.0, 1.0)
less_equal = _comparison(1.0, 1.0, 0.0)
greater_equal = _comparison(0.0, 1.0, 1.0)
equal = _comparison(0.0, 1.0, 0.0)
not_equal = _comparison(1.0, 0.0, 1.0)

"""What this machine could do at best: memory bandwidth, and the least time that a formula's operators cost.

The compute floor is a sum over a formula's distinct calls, each as cheap as the tuned simple kernel of its class, with
all cores busy: an addition for ELEMENTWISE, a running sum over a tile in cache for TIME_SERIES, a plain sort of a day
for RANK and for the metrics, a pass for other cross-sections. None of them handles nulls or ties.
The bandwidth floor reads each field of the formula once and writes its values once.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from factors.expression import Call, Expr, distinct, fields
from factors.operators import Kind

CORES = 2
LANES = 64
ROWS = 2500
LARGE = 8 << 20  #: elements, far more than the last-level cache holds
REPEATS = 7

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Floor:
    """Seconds a cell and core by class of kernel, and bytes a second of all cores."""

    elementwise: float
    window: float
    sort: float
    bandwidth: float

    def compute_seconds(self, formula: Expr, cells: int) -> float:
        """Least time to compute a formula and its metrics."""
        calls = [node for node in distinct(formula) if isinstance(node, Call)]
        return (sum(self._cost(call) for call in calls) + self.sort) * cells / CORES

    def memory_seconds(self, formula: Expr, cells: int) -> float:
        """Least time to read a formula's fields and write its values."""
        return (len(fields(formula)) + 1) * 8 * cells / self.bandwidth

    def _cost(self, call: Call) -> float:
        if call.op.name in {"RANK", "GROUP_RANK"}:
            return self.sort
        return self.window if call.op.kind is Kind.TIME_SERIES else self.elementwise


def measure(instruments: int) -> Floor:
    """Measure the floor for days of that many instruments."""
    source = np.random.default_rng(1).standard_normal((ROWS, LANES))
    a, b, out = source.ravel()[:4096].copy(), source.ravel()[4096:8192].copy(), np.empty(4096)
    tile = np.empty_like(source)
    days = np.random.default_rng(2).standard_normal((64, instruments))
    elementwise = _best(lambda: [np.add(a, b, out=out) for _ in range(100)]) / (100 * out.size)
    window = _best(lambda: _running_sum(source, 20, tile)) / tile.size
    sort = _best(lambda: np.sort(days, axis=1)) / days.size
    return Floor(elementwise, window, sort, _triad())


def _best(work: Callable[[], object]) -> float:
    seconds = []
    work()
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _triad() -> float:
    """Bytes a second of ``a = b + s * c`` on all cores, the write's read for ownership not counted."""
    arrays = [np.ones(LARGE) for _ in range(3)]
    parts: Sequence[slice] = [slice(LARGE * core // CORES, LARGE * (core + 1) // CORES) for core in range(CORES)]
    with ThreadPoolExecutor(CORES) as pool:
        seconds = _best(lambda: list(pool.map(lambda part: _stream(*(array[part] for array in arrays)), parts)))
    return 3 * 8 * LARGE / seconds


@njit(nogil=True, fastmath=True)
def _stream(a: Array, b: Array, c: Array) -> None:
    for i in range(len(a)):
        a[i] = b[i] + 3.0 * c[i]


@njit(nogil=True, fastmath=True)
def _running_sum(x: Array, d: int, out: Array) -> None:
    rows, lanes = x.shape
    for j in range(lanes):
        out[0, j] = x[0, j]
    for t in range(1, rows):
        for j in range(lanes):
            out[t, j] = out[t - 1, j] + x[t, j]
        if t >= d:
            for j in range(lanes):
                out[t, j] -= x[t - d, j]

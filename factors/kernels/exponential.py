"""Exponentially weighted means over one tile; see ``rolling`` for the conventions.

The weight of row t-k is (1 - alpha)^k over all rows up to t, so memory has no end. A null row weighs nothing, but its
day passes all the same; there the value is that of the last known row, whose weights have all faded alike.
"""

import numpy as np

from factors.kernels.compile import kernel
from factors.kernels.elementwise import Values


def ema(x: Values, d: int, out: Values) -> None:
    """Weights that fade by 1 - 2/(d + 1) a row: their centre of mass is that of a window of d rows."""
    _faded(x, 1.0 - 2.0 / (d + 1.0), out)


def sma(x: Values, n: int, m: float, out: Values) -> None:
    """Weights that fade by 1 - m/n a row."""
    _faded(x, 1.0 - m / n, out)


@kernel
def _faded(x, decay, out):
    """Mean by a recursion on itself and on the older rows' weight beside a new one's.

    Neither can overflow, and where a long gap has faded the old weight to nothing the new value stands alone.
    """
    rows, lanes = x.shape
    mean, weight = np.full(lanes, np.nan), np.zeros(lanes)
    for t in range(rows):
        for j in range(lanes):
            v, old = x[t, j], weight[j] * decay
            known = v == v
            share = 1.0 / (old + 1.0)
            blend = v * share + (mean[j] if mean[j] == mean[j] else 0.0) * (old * share)
            blend = v if v == mean[j] else blend
            mean[j] = blend if known else mean[j]
            weight[j] = old + 1.0 if known else old
            out[t, j] = mean[j]

"""Time-series kernels of regression beside those of ``rolling``, whose conventions they share."""

import numpy as np

from factors.kernels.elementwise import Values
from factors.kernels.moments import comoments

_R_SQUARED = 4


def regression_r_squared(y: Values, x: Values, d: int, out: Values) -> None:
    """Squared correlation of y and x over the rows where both are known; null where either is constant."""
    comoments(x, y, d, _R_SQUARED, out)


def sequence(_d: int, out: Values) -> None:
    """The row's number. It stands for 1..d in every window, since what may read it is blind to a constant added."""
    out[:] = np.arange(1.0, len(out) + 1.0)[:, None]
